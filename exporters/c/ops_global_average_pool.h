/* GlobalAveragePool of `channels` planes of n elements. */
static void et_global_average_pool_SUFFIX(const ELEMENT *in, uint8_t *out, int32_t channels, int32_t n,
                                          const uint8_t *k) {
  for (; channels > 0; channels--) {
    const ELEMENT *end = in + n;
    int32_t acc = -n * k[0];
    for (; end - in >= 4; in += 4) acc += in[0] + in[1] + in[2] + in[3];
    while (in < end) acc += *in++;
    *out++ = (uint8_t)et_clamp(et_scale(acc, k + 5) + k[1], 0, 255);
  }
}
