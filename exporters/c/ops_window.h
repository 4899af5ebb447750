/* Sizes of a pool; (length,) is (1, length). */
typedef struct {
  int32_t channels, height, width, out_height, out_width, kernel[2], stride[2], pad[2];
} et_window;
