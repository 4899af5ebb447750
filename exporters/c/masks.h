/* Weights under a mask, filter by filter: the lists of what is added and what is subtracted. docs/packet.md has the bytes. */
typedef struct {
  const uint8_t *map, *values, *rows, *columns; /* rows, columns: bitmaps of wide ids; none: the first ones */
  uint32_t map_bit, value_bit, gap;             /* gap: places to the next weight (Rice) */
  uint32_t row, repeat;
  uint8_t coding, edges, rice;
  uint32_t plus, minus; /* entries of the last filter: the first ones of the list, the last ones of it */
#ifdef ET_NEEDS_SEED
  uint32_t key[ET_EDGES][5], word[ET_EDGES], at[ET_EDGES]; /* word: of counter `at` */
#endif
} et_masks;

static uint32_t et_size(const uint8_t **k) {
  uint32_t v = 0;
  for (unsigned shift = 0; shift < 28; shift += 7) {
    uint32_t byte = *(*k)++;
    v |= (byte & 127u) << shift;
    if (byte < 128) break;
  }
  return v;
}

/* 24 bits and more from bit `at` of a little-endian stream; three bytes behind its end are read. */
static uint32_t et_bits(const uint8_t *stream, uint32_t at) {
  const uint8_t *p = stream + (at >> 3);
  return ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24) >> (at & 7u);
}

static uint32_t et_bit(const uint8_t *stream, uint32_t at) { return (uint32_t)(stream[at >> 3] >> (at & 7u)) & 1u; }

static uint32_t et_gap(et_masks *m) {
  uint32_t high = 0, low;
  while (et_bit(m->map, m->map_bit)) high++, m->map_bit++;
  low = et_bits(m->map, m->map_bit + 1) & ((1u << m->rice) - 1u);
  m->map_bit += 1u + m->rice;
  return (high << m->rice) + low;
}

/* Start on a layer's weights at k; the bytes behind them. */
static const uint8_t *et_masks_open(et_masks *m, const uint8_t *k, const uint8_t *seed, uint32_t layer) {
  m->coding = k[0], m->edges = k[1], k += 2;
  m->rows = m->columns = 0, m->repeat = 1, m->row = 0;
#ifdef ET_NEEDS_SEED
  if (m->coding == ET_SEED) {
    uint32_t size = et_size(&k);
    if (size) (void)et_size(&k), m->rows = k, k += size;
    size = et_size(&k);
    if (size) m->repeat = et_size(&k), m->columns = k, k += size;
    for (uint32_t e = 0; e < m->edges; e++) et_keys(seed, layer, e, m->key[e]), m->at[e] = 0xFFFFFFFFu;
  }
#else
  (void)seed, (void)layer;
#endif
  uint32_t size = et_size(&k);
  m->rice = k[0], m->map = k + 1, m->map_bit = 0, k += size;
  m->gap = m->rice == 255 ? 0 : et_gap(m);
  size = et_size(&k);
  m->values = k, m->value_bit = 0;
  return k + size;
}

/* The next `length` <= 24 places of the mask. */
static uint32_t et_map(et_masks *m, uint32_t length) {
  if (m->rice == 255) {
    uint32_t bits = et_bits(m->map, m->map_bit) & ((1u << length) - 1u);
    m->map_bit += length;
    return bits;
  }
  uint32_t bits = 0;
  while (m->gap < length) bits |= 1u << m->gap, m->gap += 1u + et_gap(m);
  m->gap -= length;
  return bits;
}

#ifdef ET_NEEDS_SEED
static uint32_t et_word(et_masks *m, uint32_t e, uint32_t index) {
  uint32_t at = m->row << 16 | index;
  if (m->at[e] != at) {
    uint32_t x = at + m->key[e][0];
    for (int round = 1; round < 5; round++) x = et_permute(x, m->key[e][round]);
    m->word[e] = x, m->at[e] = at;
  }
  return m->word[e];
}

/* The signs of `length` <= 24 positions from `position`. */
static uint32_t et_signs(et_masks *m, uint32_t e, uint32_t position, uint32_t length) {
  uint32_t shift = position & 31u, bits = et_word(m, e, position >> 5) >> shift;
  if (shift + length > 32) bits |= et_word(m, e, (position >> 5) + 1u) << (32u - shift);
  return bits;
}
#endif

static uint32_t et_value_bit(et_masks *m) { return et_bit(m->values, m->value_bit++); }

/* A network of one edge everywhere has neither sides nor further edges to read. */
#define ET_PARALLEL(m) (ET_EDGES == 1 ? 1u : (m)->edges)

/* Entries of the weights in `bits`, whose signs begin at `position`: tap[t], or t * plane, beyond `base`. */
static void et_entries(et_masks *m, uint32_t bits, uint32_t position, uint32_t length, et_offset base,
                       const et_offset *tap, et_offset plane, et_offset *list) {
  et_offset *plus = list + m->plus, *minus = list + ET_LIST - m->minus;
#ifdef ET_NEEDS_SEED
  uint32_t sign[ET_EDGES];
  if (m->coding == ET_SEED)
    for (uint32_t e = 0; e < ET_PARALLEL(m); e++) sign[e] = et_signs(m, e, position, length);
#else
  (void)position, (void)length;
#endif
  for (uint32_t t = 0; bits; bits >>= 1, t++) {
#ifdef ET_BITWISE
    if (!(bits & 1u)) continue;
#else
    uint32_t skip = (uint32_t)__builtin_ctz(bits);
    t += skip, bits >>= skip;
#endif
    et_offset at = (et_offset)(base + (tap ? tap[t] : (et_offset)(t * plane)));
    uint32_t below, room = ET_PARALLEL(m), size = 1;
#ifdef ET_NEEDS_SEED
    if (m->coding == ET_SEED) {
      uint32_t negative = 0;
      for (uint32_t e = 0; e < ET_PARALLEL(m); e++) negative += sign[e] >> t & 1u;
      below = negative == 0 ? 0 : negative == room ? 1 : et_value_bit(m);
      room = below ? negative : room - negative;
    } else
#endif
      below = et_value_bit(m);
    while (size < room && et_value_bit(m)) size++;
    for (; size; size--)
      if (below) *--minus = at;
      else *plus++ = at;
  }
  m->plus = (uint32_t)(plus - list), m->minus = (uint32_t)(list + ET_LIST - minus);
}

/* The lists of the next filter: m->plus entries from list[0], m->minus up to list[ET_LIST]. */
static void et_decode(et_masks *m, const et_fan *fan, et_offset *list) {
  /* Without taps and ids, inputs follow each other as taps do. */
  uint32_t group = fan->taps == 1 && !m->columns ? 24u : 1u, id = 0, run = 0;
  et_offset base = 0;
  m->plus = m->minus = 0;
  if (m->rows) while (!et_bit(m->rows, m->row)) m->row++;
  for (uint32_t c = 0; c < fan->inputs; c += group) {
    uint32_t places = group == 1 ? fan->taps : fan->inputs - c < group ? fan->inputs - c : group;
    if (m->columns && run == 0) while (!et_bit(m->columns, id)) id++;
    uint32_t wide = m->columns ? id * m->repeat + run : c;
    for (uint32_t t = 0; t < places; t += 24) {
      uint32_t length = places - t < 24 ? places - t : 24, bits = et_map(m, length);
      if (bits) et_entries(m, bits, wide * fan->taps + t, length, base, group == 1 && fan->tap ? fan->tap + t : 0, fan->plane,
                           list);
    }
    if (m->columns && ++run == m->repeat) run = 0, id++;
    base = (et_offset)(base + group * fan->plane);
  }
  m->row++;
}
