/* A layer of flat inputs; `in`, `out`, fan.inputs, filters and activation of g count. */
static const uint8_t *et_linear_SUFFIX(const et_conv *g, uint8_t *arena, et_offset *list, const uint8_t *seed,
                                       const uint8_t *k) {
  const int32_t zero = *k++;
  const uint8_t *head = k, *filters = head + ET_HEAD(g->activation), *weights = et_filters_end(filters, g->filters);
  const ELEMENT *in = (const ELEMENT *)(const void *)(arena + g->in);
  const int8_t *dense = (const int8_t *)weights + 1;
#ifdef ET_MASKED_LINEAR_SUFFIX
  et_terms terms = {0};
#ifdef ET_DENSE_LINEAR_SUFFIX
  const uint32_t masked = weights[0] != ET_INT8;
#else
  const uint32_t masked = 1;
#endif
  if (masked) weights = et_terms_open(&terms, g, weights, seed);
  else
#else
  (void)list; (void)seed;
#endif
    weights += 1u + (uint32_t)g->filters * g->fan.inputs;
  for (uint32_t f = 0; f < g->filters; f++) {
    uint8_t row[7];
    et_filter(filters, g->filters, f, row);
    int32_t acc = et_i32(row);
#ifdef ET_MASKED_LINEAR_SUFFIX
    if (masked) {
      et_terms_next(&terms, g, 0, list);
      for (const et_offset *o = terms.added, *end = o + terms.plus; o < end;) acc += in[*o++];
      for (const et_offset *o = terms.taken, *end = o + terms.minus; o < end;) acc -= in[*o++];
      acc -= zero * ((int32_t)terms.plus - (int32_t)terms.minus);
    } else
#endif
    {
      const int8_t *w = dense, *end = w + g->fan.inputs;
      for (const ELEMENT *x = in; w < end; x += 4, w += 4) {
        if (end - w < 4) {
          for (; w < end; x++) acc += *w++ * *x;
          break;
        }
        acc += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
      }
      for (w = end; zero && w > dense;) acc -= zero * *--w;
      dense = end;
    }
    arena[g->out + f] = et_code(g->activation, head, et_scale(acc, row + 4));
  }
  return weights;
}
