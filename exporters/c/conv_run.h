/* One layer, its constants at k; what follows them. */
static const uint8_t *et_conv_SUFFIX(const et_conv *g, uint8_t *arena, et_offset *list, const uint8_t *seed,
                                     const uint8_t *k) {
  const int32_t zero = *k++;
  const uint8_t *head = k, *filters = head + ET_HEAD(g->activation), *weights = et_filters_end(filters, g->filters);
#ifdef ET_NEEDS_ANY
  const uint32_t fast = g->activation->kind == ET_CLAMP;
#endif
  const uint32_t size = (uint32_t)g->fan.inputs * g->fan.taps;
  const int8_t *dense = (const int8_t *)weights + 1;
  const ELEMENT *in = (const ELEMENT *)(const void *)(arena + g->in);
  const uint32_t run = (uint32_t)(g->height - 1) * g->pitch + g->width;
#ifdef ET_MASKED_CONV_SUFFIX
  et_terms terms = {0};
#ifdef ET_DENSE_CONV_SUFFIX
  const uint32_t masked = weights[0] != ET_INT8;
#else
  const uint32_t masked = 1;
#endif
  if (masked) { weights = et_terms_open(&terms, g, weights, seed); ET_FIND_PLACES(&g->fan, list + ET_LIST); }
  else
#else
  const uint32_t masked = 0;
  (void)list; (void)seed;
  if (!masked)
#endif
    weights += 1 + g->filters * size;
  et_clear(arena + g->out, head[0], g->filled);
  for (uint32_t f = 0; f < g->filters; f++) {
    uint8_t row[7];
    et_filter(filters, g->filters, f, row);
    const ELEMENT *p = in + f / g->group_filters * g->fan.inputs * g->fan.plane;
    int32_t start = et_i32(row), sum = 0;
#ifdef ET_MASKED_CONV_SUFFIX
    if (masked) { et_terms_next(&terms, g, list + ET_LIST, list); sum = (int32_t)terms.plus - (int32_t)terms.minus; }
    else
#endif
      for (uint32_t i = 0; i < size && zero; i++) sum += dense[i];
    start -= zero * sum;
    et_ratio ratio = et_ratio_of(row + 4, head[3] & 1u);
    uint8_t *out = arena + g->out + f * g->out_plane, *q[2] = {out + g->out_at[0][0], out + g->out_at[0][1]};
    uint32_t x = 0, y = 0;
    for (uint32_t i = 0; i < run; i += ET_TILE, p += ET_TILE) {
      int32_t a[ET_TILE];
      uint32_t left = run - i < ET_TILE ? run - i : ET_TILE;
      for (uint32_t j = 0; j < ET_TILE; j += 4) a[j] = a[j + 1] = a[j + 2] = a[j + 3] = start;
#ifdef ET_MASKED_CONV_SUFFIX
      if (masked) et_lists_SUFFIX(p, terms.added, terms.plus, terms.taken, terms.minus, a, left);
#endif
#ifdef ET_DENSE_CONV_SUFFIX
      if (!masked) et_dots_SUFFIX(p, &g->fan, dense, a, left);
#endif
      for (uint32_t j = 0; j < left;) {
        uint32_t n = x < g->width ? g->width - x : g->pitch - x;
        n = n < left - j ? n : left - j;
#ifdef ET_NEEDS_ANY
        if (x < g->width && !(fast && ratio.e)) et_store_any(a + j, n, q, g->out_column, g->activation, row + 4, head);
        else
#endif
          if (x < g->width) et_store(a + j, n, q, g->out_column, ratio, head);
        x += n; j += n;
        if (x < g->pitch) continue;
        x = 0; y++;
        for (unsigned b = 0; b < 2; b++) q[b] = out + (y >> 1) * g->out_row + g->out_at[y & 1u][b];
      }
    }
    dense += size;
  }
  return weights;
}
