/* Add and Mul of any number of operands of both types. `step`: as in et_pair. */
typedef struct {
  const uint8_t *bytes; /* one of the two */
  const int16_t *words;
  int32_t step[3];
} et_operand;

/* `factors`: of an Add; a Mul has none. */
static int32_t et_joined(const et_operand *o, int32_t count, const uint8_t *zeros, const uint8_t *factors,
                         const int32_t *at) {
  int32_t acc = factors ? 0 : 1, i;
  for (i = 0; i < count; i++, o++) {
    int32_t j = at[0] * o->step[0] + at[1] * o->step[1] + at[2] * o->step[2];
    int32_t v = (o->bytes ? o->bytes[j] : o->words[j]) - zeros[i];
    acc = factors ? acc + et_i32(factors + 4 * i) * v : acc * v;
  }
  return acc;
}

/* `size`: of the result. */
static void et_join(const et_operand *o, int32_t count, uint8_t *out, const int32_t *size, int32_t sum,
                    const et_activation *a, const uint8_t *k) {
  const uint8_t *head = k + count, *row = head + ET_HEAD(a), *e = row + 4 * count;
  int32_t at[3];
  for (at[0] = 0; at[0] < size[0]; at[0]++) {
    for (at[1] = 0; at[1] < size[1]; at[1]++) {
      for (at[2] = 0; at[2] < size[2]; at[2]++) {
        int32_t acc = et_joined(o, count, k, sum ? row : 0, at);
        *out++ = et_code(a, head, sum ? et_clamp(et_shift(acc, *e), -0x20000000, 0x1FFFFFFF) : et_scale(acc, row));
      }
    }
  }
}
