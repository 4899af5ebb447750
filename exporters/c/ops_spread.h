/* Sizes of a ConvTranspose; `whole`: the width of the result before its padding is cut off. */
typedef struct {
  int32_t inputs, height, width, out_height, out_width, kernel[2], stride[2], pad[2], whole;
} et_spread;
