/* Sizes of a Resize; (length,) is (1, length). */
typedef struct {
  int32_t channels, height, width, out_height, out_width;
} et_resize;

/* A result of linear interpolation in one direction: the next after `at` has `share` of 2^bits, `at` the rest. */
typedef struct {
  uint16_t at, share;
} et_share;
