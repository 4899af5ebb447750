/* Inputs and taps of a filter, and where each reads: channel * plane + tap[t]. */
typedef struct {
  uint16_t inputs, taps;
  et_offset plane;
  const et_offset *tap;
} et_fan;
