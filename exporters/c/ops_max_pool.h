/* MaxPool. Every window holds an element, so padding need not be read. */
static void et_max_pool_SUFFIX(const ELEMENT *in, ELEMENT *out, const et_window *w) {
  int32_t width = w->width, channel, i, j, x, y;
  for (channel = 0; channel < w->channels; channel++, in += w->height * width) {
    for (i = 0; i < w->out_height; i++) {
      int32_t top = i * w->stride[0] - w->pad[0], bottom = et_clamp(top + w->kernel[0], 0, w->height);
      top = top < 0 ? 0 : top;
      for (j = 0; j < w->out_width; j++) {
        int32_t left = j * w->stride[1] - w->pad[1], right = et_clamp(left + w->kernel[1], 0, width);
        const ELEMENT *row = in + top * width;
        left = left < 0 ? 0 : left;
        ELEMENT most = row[left];
        for (y = top; y < bottom; y++, row += width)
          for (x = left; x < right; x++) most = row[x] > most ? row[x] : most;
        *out++ = most;
      }
    }
  }
}
