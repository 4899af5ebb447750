/* One element of each window of a row of windows, `step` apart; those at both ends may have none. */
static void et_largest_SUFFIX(const ELEMENT *row, int32_t width, int32_t x, int32_t step, ELEMENT *out, int32_t count) {
  ELEMENT *end = out + count;
  for (; x < 0 && out < end; x += step) out++;
  for (; out < end && x < width; x += step, out++)
    if (row[x] > *out) *out = row[x];
}

/* MaxPool. Every window holds an element, so padding need not be read. */
static void et_max_pool_SUFFIX(const ELEMENT *in, ELEMENT *out, const et_window *w) {
  int32_t channel, i, j, y, tap;
  for (channel = 0; channel < w->channels; channel++, in += w->height * w->width) {
    for (i = 0; i < w->out_height; i++, out += w->out_width) {
      int32_t top = i * w->stride[0] - w->pad[0];
      for (j = 0; j < w->out_width; j++) out[j] = sizeof(ELEMENT) == 1 ? 0 : (ELEMENT)-32768;
      for (y = top < 0 ? 0 : top; y < top + w->kernel[0] && y < w->height; y++)
        for (tap = 0; tap < w->kernel[1]; tap++)
          et_largest_SUFFIX(in + y * w->width, w->width, tap - w->pad[1], w->stride[1], out, w->out_width);
    }
  }
}
