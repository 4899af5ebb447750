/* The random signs, as edgeticket/prng.py defines them: bit 1 = minus. */
static uint32_t et_permute(uint32_t x, uint32_t key) {
  x *= x + x + 1u;
  return ((x >> 16) | (x << 16)) + key;
}

/* The five keys of an edge of a layer. */
static void et_keys(const uint8_t *seed, uint32_t layer, uint32_t edge, uint32_t key[5]) {
  uint32_t x = 0x243F6A88u;
  for (uint32_t i = 0; i < 9; i++) {
    x += i == 0 ? (uint32_t)et_i32(seed) : i == 1 ? (uint32_t)et_i32(seed + 4) : i == 2 ? layer : i == 3 ? edge : i - 3;
    for (int round = 0; round < 8; round++) x = et_permute(x, 0x9E3779B9u);
    if (i > 3) key[i - 4] = x;
  }
}
