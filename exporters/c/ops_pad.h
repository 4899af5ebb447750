/* Pad: `height` rows of `length` bytes, `skip` apart, go to frames that are full of the zero point. All is in bytes. */
typedef struct {
  int32_t channels, plane, skip, first, height, length, out_plane, out_skip, out_first;
} et_frame;

static void et_pad(const uint8_t *in, uint8_t *out, const et_frame *p, int32_t zero) {
  int32_t i;
  memset(out, zero, (size_t)(p->channels * p->out_plane));
  for (int32_t channel = 0; channel < p->channels; channel++, in += p->plane, out += p->out_plane)
    for (i = 0; i < p->height; i++)
      memcpy(out + p->out_first + i * p->out_skip, in + p->first + i * p->skip, (size_t)p->length);
}
