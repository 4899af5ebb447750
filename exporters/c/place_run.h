/* `offsets`: int16 per channel that are taken off, or none. What lies outside is cleared already. */
static void et_place_SOURCE_SUFFIX(const et_place *g, const RAW *in, ELEMENT *out, const uint8_t *offsets) {
  for (uint32_t c = 0; c < g->channels; c++, in += (uint32_t)g->height * g->width, out += g->plane) {
    const int32_t offset = offsets ? et_i16(offsets + 2 * c) : 0;
    for (uint32_t y = 0; y < g->height; y++)
      for (uint32_t x = 0; x < g->width; x++) {
        uint32_t py = y + g->top, px = x + g->left, a = py % g->stride_y, b = px % g->stride_x;
        uint32_t row = py / g->stride_y, column = px / g->stride_x;
        et_offset at = g->at[a * g->stride_x + b];
        int32_t v = in[y * g->width + x] - offset;
        if (at == ET_NONE || row >= g->rows || column >= g->pitch) continue;
        out[at + row * g->pitch + column] = (ELEMENT)(offsets ? et_clamp(v, -32768, 32767) : v);
      }
  }
}
