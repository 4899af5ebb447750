/* A model as data: every count, code and bound of a packet is checked where it lies, before any of it is believed. The same
   checks as in edgeticket/wire_reader.py; docs/packet.md has the bytes. What passes is safe to run, whoever made it. */
typedef struct {
  uint32_t at; /* of the int16 offsets in a packet */
  uint16_t channels;
  int32_t low, high; /* what the sensor can give */
} et_sensor;

/* An input, or a layer with constants: edgeticket/wire_plan.py. */
enum { ET_BIAS = 1, ET_COUNTS = 2, ET_RATIO = 4, ET_BELOW = 8, ET_FILTERS = 16, ET_FACTORS = 32, ET_PRODUCT = 64 };
typedef struct {
  uint32_t raw, sums; /* bytes before the head; values that a sum without weights is made of */
  uint16_t rows, inputs, taps, layer;
  uint8_t head, form, coding, edges;
  const et_sensor *const *sensors; /* what each operand comes from, 0: codes; none: all are codes */
} et_section;

typedef struct {
  const uint8_t *packet, *k, *end;
} et_reader;

static const uint8_t *et_take(et_reader *r, uint32_t count) {
  const uint8_t *k = r->k;
  if (k > r->end || count > (uint32_t)(r->end - k)) return 0;
  r->k = k + count;
  return k;
}

static int et_shift_good(const uint8_t *ratio) { return ratio[2] - 1u < 46; }

/* The most that a value of operand i, as a sum takes it, and its zero point can add. */
static uint32_t et_reach(const et_reader *r, const et_section *s, const uint8_t *zeros, uint32_t i) {
  const et_sensor *sensor = s->sensors ? s->sensors[i] : 0;
  int32_t most = sensor ? 0 : 255;
  for (uint32_t c = 0; sensor && c < sensor->channels; c++) {
    const int32_t offset = et_i16(r->packet + sensor->at + 2 * c), below = offset - sensor->low, above = sensor->high - offset;
    const int32_t low = below < 0 ? -below : below, high = above < 0 ? -above : above, larger = low < high ? high : low;
    if (most < larger) most = larger;
  }
  return (uint32_t)(most > 32768 ? 32768 : most) + zeros[i];
}

#define ET_SUMS_END 0x80000000u /* |acc| is smaller */

static int et_factors_good(et_reader *r, const et_section *s, const uint8_t *zeros) {
  const uint8_t *factors = et_take(r, 4u * s->rows + 1);
  uint32_t sum = 0;
  if (!factors || !et_shift_good(factors + 4u * s->rows - 2)) return 0;
  for (uint32_t i = 0; i < s->rows; i++) {
    const uint32_t factor = (uint32_t)et_i32(factors + 4 * i);
    if (factor > 32768 || factor * et_reach(r, s, zeros, i) >= ET_SUMS_END - sum) return 0;
    sum += factor * et_reach(r, s, zeros, i);
  }
  return 1;
}

static int et_product_good(const et_reader *r, const et_section *s, const uint8_t *zeros) {
  uint32_t product = 1;
  for (uint32_t i = 0; i < s->raw; i++) {
    const uint32_t reach = et_reach(r, s, zeros, i);
    if (product > (ET_SUMS_END - 1) / reach) return 0;
    product *= reach;
  }
  return 1;
}

/* Bytes of a row. */
static uint32_t et_row_size(uint32_t form) {
  return (form & ET_BIAS ? 4u : 0) + (form & ET_COUNTS ? 1u : 0) + 3 + (form & ET_BELOW ? 3u : 0);
}

static const uint8_t *et_rows_good(et_reader *r, const et_section *s, uint32_t form) {
  const uint32_t size = et_row_size(form), counts = form & ET_BIAS ? 4 : 0, ratio = counts + (form & ET_COUNTS ? 1 : 0);
  const uint8_t *rows = et_take(r, size * s->rows);
  for (uint32_t i = 0; rows && i < s->rows; i++) {
    const uint8_t *row = rows + size * i;
    if ((form & ET_COUNTS && row[counts] > 1) || !et_shift_good(row + ratio)) return 0;
    if (form & ET_BELOW && !et_shift_good(row + ratio + 3)) return 0;
  }
  return rows;
}

#ifdef ET_HAS_FILTERS
static const uint8_t *et_filters_good(et_reader *r, const et_section *s) {
  const uint8_t *k = et_take(r, 1), *grids;
  if (!k || k[0] > 1) return 0;
  if (!k[0]) return et_rows_good(r, s, ET_BIAS | ET_RATIO) ? k : 0;
  grids = et_take(r, 8 + 2u * s->rows);
  if (!grids || grids[7] - 1u > 30) return 0;
  for (uint32_t f = 0; f < s->rows; f++) {
    uint8_t row[7];
    if (!grids[8 + f]) return 0;
    et_filter(k, s->rows, f, row);
    if (!et_shift_good(row + 4)) return 0;
  }
  return k;
}
#endif

#ifdef ET_HAS_MASKS
static int et_size_good(et_reader *r, uint32_t *size) {
  if (r->k > r->end) return 0;
  *size = et_size(&r->k); /* four bytes at most: of the checksum, if there are no others */
  return r->k <= r->end;
}

static const uint8_t *et_stream(et_reader *r, uint32_t *size) { return et_size_good(r, size) ? et_take(r, *size) : 0; }

/* A layer's weights, filter by filter. */
typedef struct {
  et_masks masks;
  uint32_t map_bits, value_bits; /* that there are */
  uint32_t left;                 /* places of the map, and one, that no gap has covered yet */
} et_walk;

/* The next gap of a Rice code, which neither its bits nor the places are too few for. */
static int et_gap_good(et_walk *w) {
  et_masks *m = &w->masks;
  uint32_t at = m->map_bit, high = 0, bits, ones, gap;
  do {
    if (at >= w->map_bits) return 0;
    bits = et_bits(m->map, at);
#ifdef ET_BITWISE
    for (ones = 0; ones < 32 && bits >> ones & 1u;) ones++;
#else
    ones = ~bits ? (uint32_t)__builtin_ctz(~bits) : 32;
#endif
    high += ones; at += ones;
  } while (ones == 32);
  if (at >= w->map_bits) return 0; /* a remainder cut short ends beyond them: the next gap, or et_end_good, sees that */
  bits = ones + m->rice < 32 ? bits >> ones >> 1 : et_bits(m->map, at + 1);
  gap = (high << m->rice) + (bits & ((1u << m->rice) - 1u));
  if (high > (w->left - 1) >> m->rice || gap >= w->left) return 0;
  m->gap += gap; m->map_bit = at + 1 + m->rice; w->left -= gap + 1;
  return 1;
}

/* The next `length` places of the mask as et_map gives them; *good: there are gaps for them. */
static uint32_t et_map_good(et_walk *w, uint32_t length, int *good) {
  et_masks *m = &w->masks;
  uint32_t found = 0;
  if (m->rice == 255) return et_map(m, length);
  while (*good && m->gap < length) { found |= 1u << m->gap++; *good = et_gap_good(w); }
  m->gap -= *good ? length : 0;
  return found;
}

/* Nothing but zeros behind the last bit that was used, and that in the last byte. */
static int et_end_good(const uint8_t *stream, uint32_t bits, uint32_t at) {
  return bits - at < 8 && !(at & 7u && stream[at >> 3] >> (at & 7u));
}

#ifdef ET_NEEDS_SEED
/* A bitmap of `count` channels, each of which stands for some in a row, a filter for itself. */
static int et_ids_good(et_reader *r, uint32_t count, uint32_t taps, uint32_t most, uint32_t limit) {
  uint32_t size, each, found = 0, last = 0;
  const uint8_t *ids;
  if (!et_size_good(r, &size)) return 0;
  if (!size) return 1;
  if (!et_size_good(r, &each) || !each || each > most || count % each) return 0;
  ids = et_take(r, size);
  if (!ids || !ids[size - 1]) return 0;
  for (uint32_t i = 0; i < 8 * size; i++)
    if (et_bit(ids, i)) { found++; last = i; }
  return found == count / each && last < limit / (taps * each);
}
#endif

/* Open the layer's weights: kinds, ids and sizes are right then; what the streams hold is not known yet. */
static int et_open_good(et_reader *r, const et_section *s, et_walk *w) {
  const uint8_t *weights = et_take(r, 2), *map;
  const uint32_t places = (uint32_t)s->rows * s->inputs * s->taps;
  uint32_t size, values;
  if (!weights || weights[0] != s->coding || weights[1] != s->edges) return 0;
#ifdef ET_NEEDS_SEED
  if (s->coding == ET_SEED && !et_ids_good(r, s->rows, 1, 1, 1u << 16)) return 0;
  if (s->coding == ET_SEED && !et_ids_good(r, s->inputs, s->taps, s->inputs, 1u << 21)) return 0;
#endif
  map = et_stream(r, &size);
  if (!map || !size || !et_stream(r, &values) || (map[0] >= 24 && map[0] != 255)) return 0;
  w->map_bits = 8 * (size - 1); w->value_bits = 8 * values; w->left = places + 1;
  w->masks.map = map + 1; w->masks.rice = map[0]; w->masks.map_bit = w->masks.gap = 0;
  if (map[0] == 255 ? size - 1 != (places + 7) / 8 : !et_gap_good(w)) return 0; /* et_masks_open reads the first gap */
  (void)et_masks_open(&w->masks, weights, r->packet + 8, s->layer);
  return 1;
}

/* Sum of |weights| of the next filter; more than any list has room for where its map or its values are wrong. */
static uint32_t et_entries(et_walk *w, const et_section *s) {
  const uint32_t size = (uint32_t)s->inputs * s->taps;
  et_masks *m = &w->masks;
  uint32_t entries = 0;
  int good = 1;
#ifdef ET_NEEDS_IDS
  m->channel = m->id = 0;
  if (m->rows) while (!et_bit(m->rows, m->row)) m->row++;
#endif
  for (uint32_t at = 0; at < size; at += 32) {
    uint32_t length = size - at < 32 ? size - at : 32, bits = et_map_good(w, length, &good);
    if (!good) return 0xFFFFFFFFu;
    if (!bits) continue;
#ifdef ET_NEEDS_SEED
    uint32_t sign[ET_EDGES];
    if (m->coding == ET_SEED && ET_PARALLEL(m) == 1) {
      bits -= bits >> 1 & 0x55555555u; bits = (bits & 0x33333333u) + (bits >> 2 & 0x33333333u);
      entries += ((bits + (bits >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
      continue;
    }
    if (m->coding == ET_SEED) et_signs(m, at, length, ET_UNIT(m, s->taps), sign);
#endif
    ET_EACH(bits, j) {
      uint32_t room = ET_PARALLEL(m), below = room, more = 1;
      (void)j;
#ifdef ET_NEEDS_SEED
      if (m->coding == ET_SEED)
        for (uint32_t e = below = 0; e < room; e++) below += sign[e] >> j & 1u;
      if (m->coding == ET_SEED && (below == 0 || below == room)) below = room;
      else
#endif
      {
        if (m->value_bit >= w->value_bits) return 0xFFFFFFFFu;
        if (et_bit(m->values, m->value_bit++)) room = below;
        else if (m->coding == ET_SEED) room -= below;
      }
      for (; more < room; more++) {
        if (m->value_bit >= w->value_bits) return 0xFFFFFFFFu;
        if (!et_bit(m->values, m->value_bit++)) break;
      }
      entries += more;
    }
  }
#ifdef ET_NEEDS_SEED
  m->row++;
#endif
  return entries;
}
#endif

/* Each row's bias and the sums beside it. `rows`: of the section; weights follow at r. */
static int et_sums_good(et_reader *r, const et_section *s, const uint8_t *zeros, const uint8_t *rows, uint32_t end) {
  const uint32_t size = (uint32_t)s->inputs * s->taps, reach = et_reach(r, s, zeros, 0), step = et_row_size(s->form);
  const uint8_t *int8 = s->coding == ET_INT8 ? et_take(r, 1 + s->rows * size) : 0;
  if (s->coding == ET_INT8 && (!int8 || *int8++ != ET_INT8)) return 0;
#ifdef ET_HAS_MASKS
  et_walk w;
  const uint32_t masked = s->coding == ET_SEED || s->coding == ET_SIGNS;
  if (masked && !et_open_good(r, s, &w)) return 0;
#endif
  for (uint32_t f = 0; f < s->rows; f++) {
    uint32_t sums = s->sums, size_of_bias = 0;
    uint8_t row[7];
    for (uint32_t i = 0; int8 && i < size; i++, int8++) sums += *int8 < 128 ? *int8 : 256u - *int8;
#ifdef ET_HAS_MASKS
    if (masked) {
      sums = et_entries(&w, s);
      if (sums > ET_LIST) return 0;
    }
#endif
#ifdef ET_HAS_FILTERS
    if (s->form == ET_FILTERS) et_filter(rows, s->rows, f, row);
    else
#endif
      if (s->form & ET_BIAS) memcpy(row, rows + step * f, 4);
    if (s->form & (ET_FILTERS | ET_BIAS)) {
      size_of_bias = (uint32_t)et_i32(row);
      if (size_of_bias >= 0x80000000u) size_of_bias = 0u - size_of_bias;
    }
    if (size_of_bias >= end || sums > (end - 1 - size_of_bias) / reach) return 0;
  }
#ifdef ET_HAS_MASKS
  if (masked)
    return et_end_good(w.masks.map, w.map_bits, w.masks.map_bit) && et_end_good(w.masks.values, w.value_bits, w.masks.value_bit);
#endif
  return 1;
}

static int et_section_good(et_reader *r, const et_section *s) {
  const uint8_t *zeros = et_take(r, s->raw), *head, *rows;
  if (!zeros || !s->head) return zeros != 0;
  head = et_take(r, s->head);
  if (!head || head[1] > head[2] || head[3] > (s->form == ET_FILTERS) || (s->head > 4 && !et_shift_good(head + 4))) return 0;
  if (s->form == ET_FACTORS) return et_factors_good(r, s, zeros);
#ifdef ET_HAS_FILTERS
  rows = s->form == ET_FILTERS ? et_filters_good(r, s) : et_rows_good(r, s, s->form);
#else
  rows = et_rows_good(r, s, s->form);
#endif
  if (rows && s->form & ET_PRODUCT) return et_product_good(r, s, zeros);
  return rows && et_sums_good(r, s, zeros, rows, head[3] ? 1u << 23 : ET_SUMS_END);
}

/* CRC-32 as of zlib, half a byte at a time. */
static uint32_t et_crc(const uint8_t *p, uint32_t size) {
  static const uint32_t table[16] = {0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
                                     0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
  uint32_t crc = 0xFFFFFFFFu;
  for (; size; size--, p++) {
    crc ^= *p;
    crc = table[crc & 15u] ^ crc >> 4;
    crc = table[crc & 15u] ^ crc >> 4;
  }
  return ~crc;
}

static int et_same(const uint8_t *a, const uint8_t *b, uint32_t count) {
  while (count && *a == *b) { a++; b++; count--; }
  return !count;
}

/* What is wrong with a packet, 0: nothing. */
static int et_wrong_packet(const uint8_t *packet, uint32_t size, const uint8_t *firmware, const et_section *s, uint32_t sections) {
  et_reader r = {packet, packet + 32, 0};
  if (!packet || size < 36 || !et_same(packet, (const uint8_t *)"ETP1", 4) || (uint32_t)et_i32(packet + 4) != size) return 1;
  r.end = packet + size - 4;
  if (et_crc(packet, size - 4) != (uint32_t)et_i32(r.end)) return 2;
  if (!et_same(packet + 16, firmware, 8)) return 3;
  for (; sections; sections--, s++)
    if (!et_section_good(&r, s)) return 4;
  return r.k == r.end ? 0 : 4;
}
