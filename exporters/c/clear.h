/* Fill a buffer of the arena, in whole words. */
static void et_clear(uint8_t *at, uint32_t value, uint32_t bytes) {
  et_cell *word = (et_cell *)(void *)at;
  for (const et_cell *end = word + (bytes + 3) / 4; word < end;) *word++ = value * 0x01010101u;
}
