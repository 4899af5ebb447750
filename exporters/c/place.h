/* A dense tensor into the packed form that a convolution reads, phase by phase of its stride. */
typedef struct {
  uint16_t channels, height, width, top, left, stride_y, stride_x, pitch;
  uint32_t plane;
  const et_offset *at; /* of each phase (y, x) in a plane; ET_NONE: nothing reads it */
} et_place;
#define ET_NONE ((et_offset)-1)
