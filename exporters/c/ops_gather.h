/* Gather: channels of `bytes` each. */
static void et_gather(const uint8_t *in, uint8_t *out, const uint16_t *channels, int32_t count, int32_t bytes) {
  for (; count > 0; count--, out += bytes) memcpy(out, in + *channels++ * bytes, (size_t)bytes);
}
