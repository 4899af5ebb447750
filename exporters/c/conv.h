/* A convolution over a packed input: positions that share a filter lie `pitch` a row apart in one run, beyond the padding. */
typedef struct {
  et_fan fan;
  et_address in, out;          /* in the arena */
  et_offset out_plane, filled; /* filled: bytes to clear before, where the output is padded */
  uint16_t filters, group_filters, layer;
  uint16_t width, height, pitch;
  et_offset out_at[2][2], out_row, out_column; /* of even and odd rows and columns; steps of two rows, of two columns */
  const et_activation *activation;
#ifdef ET_NEEDS_LISTS
  const et_offset *lists; /* of all filters */
  const uint16_t *counts; /* two of each filter */
  uint32_t stored;        /* bytes of the layer's weights in the model */
#endif
} et_conv;
