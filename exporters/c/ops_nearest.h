/* Resize, nearest: result i of n reads i * size / n, rounded down. */
static void et_nearest_SUFFIX(const ELEMENT *in, ELEMENT *out, const et_resize *r) {
  int32_t channel, i, j;
  for (channel = 0; channel < r->channels; channel++, in += r->height * r->width) {
    for (i = 0; i < r->out_height; i++) {
      const ELEMENT *from = in + i * r->height / r->out_height * r->width;
      int32_t part = 0;
      for (j = 0; j < r->out_width; j++) {
        *out++ = *from;
        for (part += r->width; part >= r->out_width; part -= r->out_width) from++;
      }
    }
  }
}
