/* AveragePool: padding is not counted. */
static void et_average_pool_SUFFIX(const ELEMENT *in, uint8_t *out, const et_window *w, const int32_t *counts,
                                   const uint8_t *k) {
  int32_t channel, i, j;
  for (channel = 0; channel < w->channels; channel++, in += w->height * w->width) {
    for (i = 0; i < w->out_height; i++) {
      int32_t y = i * w->stride[0] - w->pad[0], top = y < 0 ? 0 : y, bottom = et_clamp(y + w->kernel[0], 0, w->height);
      for (j = 0; j < w->out_width; j++) {
        int32_t x = j * w->stride[1] - w->pad[1], left = x < 0 ? 0 : x, right = et_clamp(x + w->kernel[1], 0, w->width);
        *out++ = et_mean_of_SUFFIX(in, w->width, top, bottom, left, right, counts, k);
      }
    }
  }
}
