/* A packet from another one and what differs: numbers of bytes to copy, to skip and to put in, as LEB128, again and again. */
static int et_patch(const uint8_t *base, uint32_t base_size, const uint8_t *delta, uint32_t size, uint8_t *out, uint32_t room) {
  const uint8_t *k, *end;
  uint32_t from = 0, made = 0, length, part[3];
  if (!base || !delta || size < 16 || !et_same(delta, (const uint8_t *)"ETD1", 4)) return 1;
  length = (uint32_t)et_i32(delta + 8);
  if (base_size < 4 || et_crc(base, base_size - 4) != (uint32_t)et_i32(delta + 4)) return 3;
  if (length < 4) return 4;
  if (!out || length > room) return 5;
  for (k = delta + 16, end = delta + size; made < length;) {
    for (int i = 0; i < 3; i++) {
      uint32_t byte = 128, shift = 0;
      for (part[i] = 0; byte & 128u; shift += 7) {
        if (k == end || shift == 28) return 4;
        byte = *k++; part[i] |= (byte & 127u) << shift;
      }
    }
    if (part[0] > base_size - from || part[0] > length - made) return 4;
    memcpy(out + made, base + from, part[0]);
    made += part[0]; from += part[0];
    if (part[1] > base_size - from || part[2] > length - made || part[2] > (uint32_t)(end - k)) return 4;
    memcpy(out + made, k, part[2]);
    made += part[2]; from += part[1]; k += part[2];
  }
  if (k != end) return 4;
  return et_crc(out, length - 4) == (uint32_t)et_i32(delta + 12) && et_same(out + length - 4, delta + 12, 4) ? 0 : 2;
}
