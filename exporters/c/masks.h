/* Weights under a mask, filter by filter: the lists of what is added and what is subtracted. docs/packet.md has the bytes. */
typedef struct {
  const uint8_t *map, *values;
  uint32_t map_bit, value_bit, gap; /* gap: places to the next weight (Rice) */
  const et_offset *added, *taken; /* of the last filter: where what is added, and what is taken off, reads */
  uint32_t plus, minus;           /* their numbers */
  uint8_t coding, edges, rice;
#ifdef ET_NEEDS_SEED
  uint32_t row, key[ET_EDGES][5];
#ifdef ET_NEEDS_IDS
  const uint8_t *rows, *columns; /* bitmaps of wide ids; none: the first ones */
  uint32_t repeat, channel, id;
#define ET_UNIT(m, taps) ((taps) * (m)->repeat)
#else
#define ET_UNIT(m, taps) (taps)
#endif
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

/* The next 32 bits from bit `at` of a little-endian stream; four bytes behind its end are read. */
static uint32_t et_bits(const uint8_t *stream, uint32_t at) {
  const uint8_t *p = stream + (at >> 3);
  uint32_t shift = at & 7u, low = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
  return shift ? low >> shift | (uint32_t)p[4] << (32 - shift) : low;
}

static uint32_t et_bit(const uint8_t *stream, uint32_t at) { return (uint32_t)(stream[at >> 3] >> (at & 7u)) & 1u; }

#ifdef ET_NEEDS_RICE
static uint32_t et_gap(et_masks *m) {
  uint32_t high = 0, low;
  while (et_bit(m->map, m->map_bit)) { high++; m->map_bit++; }
  low = et_bits(m->map, m->map_bit + 1) & ((1u << m->rice) - 1u);
  m->map_bit += 1u + m->rice;
  return (high << m->rice) + low;
}

#endif

/* Start on a layer's weights at k; the bytes behind them. */
static const uint8_t *et_masks_open(et_masks *m, const uint8_t *k, const uint8_t *seed, uint32_t layer) {
  m->coding = k[0]; m->edges = k[1]; k += 2;
#ifdef ET_NEEDS_SEED
  m->row = 0;
#ifdef ET_NEEDS_IDS
  m->rows = m->columns = 0; m->repeat = 1;
#endif
  if (m->coding == ET_SEED) {
#ifdef ET_NEEDS_IDS
    uint32_t ids = et_size(&k);
    if (ids) { (void)et_size(&k); m->rows = k; k += ids; }
    ids = et_size(&k);
    if (ids) { m->repeat = et_size(&k); m->columns = k; k += ids; }
#else
    k += 2; /* no ids */
#endif
    for (uint32_t e = 0; e < m->edges; e++) et_keys(seed, layer, e, m->key[e]);
  }
#else
  (void)seed; (void)layer;
#endif
  uint32_t size = et_size(&k);
  m->rice = k[0]; m->map = k + 1; m->map_bit = 0; k += size;
#ifdef ET_NEEDS_RICE
  m->gap = m->rice == 255 ? 0 : et_gap(m);
#endif
  size = et_size(&k);
  m->values = k; m->value_bit = 0;
  return k + size;
}

/* A network of one edge everywhere has neither further edges nor sides to read. */
#define ET_PARALLEL(m) (ET_EDGES == 1 ? 1u : (m)->edges)

/* The next `length` <= 32 places of the mask. */
static uint32_t et_map(et_masks *m, uint32_t length) {
#ifdef ET_NEEDS_RICE
  if (m->rice != 255) {
    uint32_t found = 0;
    while (m->gap < length) { found |= 1u << m->gap; m->gap += 1u + et_gap(m); }
    m->gap -= length;
    return found;
  }
#endif
  uint32_t bits = et_bits(m->map, m->map_bit) & (0xFFFFFFFFu >> (32 - length));
  m->map_bit += length;
  return bits;
}

#ifdef ET_NEEDS_SEED
static uint32_t et_word(const et_masks *m, uint32_t e, uint32_t index) {
  uint32_t x = (m->row << 16 | index) + m->key[e][0];
  for (int round = 1; round < 5; round++) x = et_permute(x, m->key[e][round]);
  return x;
}

/* Signs of every edge at `length` <= 32 places from `at`, a multiple of 32: the filter's own where all channels are left, else
   those of wide places, `unit` of them to a channel. */
static void et_signs(et_masks *m, uint32_t at, uint32_t length, uint32_t unit, uint32_t *sign) {
#ifndef ET_NEEDS_IDS
  (void)length; (void)unit;
  for (uint32_t e = 0; e < ET_PARALLEL(m); e++) sign[e] = et_word(m, e, at >> 5);
#else
  for (uint32_t e = 0; e < ET_PARALLEL(m); e++) sign[e] = m->columns ? 0 : et_word(m, e, at >> 5);
  for (uint32_t done = 0; m->columns && done < length;) {
    for (uint32_t c = (at + done) / unit; m->channel <= c; m->channel++)
      while (!et_bit(m->columns, m->id++)) {}
    uint32_t first = (at + done) % unit, wide = (m->id - 1) * unit + first, shift = wide & 31u;
    uint32_t most = unit - first, rest = length - done;
    most = most < rest ? most : rest;
    most = most < 32 - shift ? most : 32 - shift;
    for (uint32_t e = 0; e < ET_PARALLEL(m); e++)
      sign[e] |= ((et_word(m, e, wide >> 5) >> shift) & (0xFFFFFFFFu >> (32 - most))) << done;
    done += most;
  }
#endif
}
#endif

#ifdef ET_BITWISE
#define ET_EACH(bits, j) for (uint32_t j = 0; bits; bits >>= 1, j++) if (bits & 1u)
#else
#define ET_EACH(bits, j) for (uint32_t j; bits && ((j = (uint32_t)__builtin_ctz(bits)), 1); bits &= bits - 1)
#endif

static const et_offset et_first[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                       16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};

/* The lists of the next filter, in `list`: what is added from its front, what is taken off from its end. `places`: where each weight reads;
   none: one after the other. */
static void et_decode(et_masks *m, const et_fan *fan, const et_offset *places, et_offset *list) {
  const uint32_t size = (uint32_t)fan->inputs * fan->taps;
  et_offset *plus = list, *minus = list + ET_LIST;
  uint32_t value = m->value_bit;
#ifdef ET_NEEDS_IDS
  m->channel = m->id = 0;
  if (m->rows) while (!et_bit(m->rows, m->row)) m->row++;
#endif
  for (uint32_t at = 0; at < size; at += 32) {
    uint32_t length = size - at < 32 ? size - at : 32, bits = et_map(m, length);
    if (!bits) continue;
    const et_offset *from = places ? places + at : et_first, base = places ? 0 : (et_offset)at;
#define ET_PLACE(j) ((et_offset)(from[j] + base))
#ifdef ET_NEEDS_SEED
    uint32_t sign[ET_EDGES];
    if (m->coding == ET_SEED) {
      et_signs(m, at, length, ET_UNIT(m, fan->taps), sign);
      if (ET_PARALLEL(m) == 1) {
        uint32_t below = bits & sign[0];
        bits &= ~sign[0];
        ET_EACH(bits, j) *plus++ = ET_PLACE(j);
        ET_EACH(below, j) *--minus = ET_PLACE(j);
        continue;
      }
    }
#endif
    ET_EACH(bits, j) {
      uint32_t below, room = ET_PARALLEL(m), more = 1;
#ifdef ET_NEEDS_SEED
      if (m->coding == ET_SEED) {
        uint32_t negative = 0;
        for (uint32_t e = 0; e < room; e++) negative += sign[e] >> j & 1u;
        below = negative == 0 ? 0 : negative == room ? 1 : et_bit(m->values, value++);
        room = below ? negative : room - negative;
      } else
#endif
        below = et_bit(m->values, value++);
      while (more < room && et_bit(m->values, value++)) more++;
      for (et_offset place = ET_PLACE(j); more; more--)
        if (below) *--minus = place;
        else *plus++ = place;
    }
  }
  m->value_bit = value;
  m->added = list; m->plus = (uint32_t)(plus - list);
  m->taken = minus; m->minus = (uint32_t)(list + ET_LIST - minus);
#ifdef ET_NEEDS_SEED
  m->row++;
#endif
}
