/* Lists of all filters are there, one behind the other. */
typedef struct {
  const et_offset *added, *taken;
  uint32_t plus, minus;
  const uint16_t *count;
} et_terms;

static const uint8_t *et_terms_open(et_terms *t, const et_conv *g, const uint8_t *k, const uint8_t *seed) {
  (void)seed;
  t->taken = g->lists; t->minus = 0; t->count = g->counts;
  return k + g->stored;
}

static void et_terms_next(et_terms *t, const et_conv *g, const et_offset *places, const et_offset *list) {
  (void)g; (void)places; (void)list;
  t->added = t->taken + t->minus; t->plus = *t->count++; t->taken = t->added + t->plus; t->minus = *t->count++;
}
