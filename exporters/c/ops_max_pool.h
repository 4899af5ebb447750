/* MaxPool: `line`, `span` elements, is the largest of each column of a row of windows, and the least there is for pads.
   Every window holds an element, so padding never is the result. */
static void et_max_pool_SUFFIX(const ELEMENT *in, ELEMENT *out, const et_window *w, ELEMENT *line, int32_t span) {
  int32_t width = w->width, columns = et_clamp(span - w->pad[1], 0, width), channel, i, j, x, y;
  ELEMENT *row = line + w->pad[1];
  for (x = 0; x < span; x++) line[x] = sizeof(ELEMENT) == 1 ? 0 : (ELEMENT)-32768;
  for (channel = 0; channel < w->channels; channel++, in += w->height * width) {
    for (i = 0; i < w->out_height; i++) {
      int32_t top = i * w->stride[0] - w->pad[0], bottom = et_clamp(top + w->kernel[0], 0, w->height);
      const ELEMENT *from = in + (y = top < 0 ? 0 : top) * width, *window = line;
      memcpy(row, from, (size_t)columns * sizeof(ELEMENT));
      while (++y < bottom)
        for (from += width, x = 0; x < columns; x++)
          if (from[x] > row[x]) row[x] = from[x];
      for (j = 0; j < w->out_width; j++, window += w->stride[1]) {
        ELEMENT most = window[0];
        for (x = 1; x < w->kernel[1]; x++) most = window[x] > most ? window[x] : most;
        *out++ = most;
      }
    }
  }
}
