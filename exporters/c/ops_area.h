/* Resize, area: the mean of what falls in. */
static void et_area_SUFFIX(const ELEMENT *in, uint8_t *out, const et_resize *r, const int32_t *counts,
                           const uint8_t *k) {
  int32_t channel, i, j, height = r->height, width = r->width, rows = r->out_height, columns = r->out_width;
  for (channel = 0; channel < r->channels; channel++, in += height * width) {
    for (i = 0; i < rows; i++) {
      int32_t top = i * height / rows, bottom = ((i + 1) * height + rows - 1) / rows;
      for (j = 0; j < columns; j++) {
        int32_t left = j * width / columns, right = ((j + 1) * width + columns - 1) / columns;
        *out++ = et_mean_of_SUFFIX(in, width, top, bottom, left, right, counts, k);
      }
    }
  }
}
