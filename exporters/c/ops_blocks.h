/* DepthToSpace or its inverse: (channels * block^2, height, width) and (channels, height * block, width * block). */
static void et_blocks_SUFFIX(const ELEMENT *in, ELEMENT *out, int32_t channels, int32_t height, int32_t width,
                             int32_t block, int32_t inverse) {
  int32_t rows = channels * block * block, i, y, x;
  for (i = 0; i < rows; i++) {
    int32_t first = (i / block / block * height * block + i / block % block) * width * block + i % block;
    for (y = 0; y < height; y++, first += width * block * block)
      for (x = 0; x < width; x++)
        if (inverse)
          *out++ = in[first + x * block];
        else
          out[first + x * block] = *in++;
  }
}
