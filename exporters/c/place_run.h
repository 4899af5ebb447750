/* `offsets`: int16 per channel that are taken off, or none. What lies outside is cleared already. */
static void et_place_SOURCE_SUFFIX(const et_place *g, const RAW *in, ELEMENT *out, const uint8_t *offsets) {
  for (uint32_t c = 0; c < g->channels; c++, out += g->plane) {
    const int32_t offset = offsets ? et_i16(offsets + 2 * c) : 0;
    for (uint32_t y = g->top; y < (uint32_t)g->top + g->height; y++) {
      const et_offset *at = g->at + y % g->stride_y * g->stride_x;
      ELEMENT *row = out + y / g->stride_y * g->pitch;
      uint32_t phase = g->left % g->stride_x, column = g->left / g->stride_x;
      for (uint32_t x = g->width; x; x--) {
        int32_t v = *in++ - offset;
        if (at[phase] != ET_NONE)
          row[at[phase] + column] = (ELEMENT)(offsets ? et_clamp(v, -32768, 32767) : v);
        if (++phase == g->stride_x) { phase = 0; column++; }
      }
    }
  }
}
