/* Two operands of uint8_t: sizes of the result, and how far each moves in each direction, 0 where it is broadcast. */
typedef struct {
  int32_t size[3], a[3], b[3];
} et_pair;
