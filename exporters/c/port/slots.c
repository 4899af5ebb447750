/* See slots.h. A slot: places for RECORDS notes, then an update (docs/update.md). A note is written once, never changed, and
   counts only with its checksum. Notes say what a slot is for, and it is used only if its update is found good again. */
#include "slots.h"
#include <string.h>

enum { RECORDS = 16, RECORD = 16, CLASS_BYTES = 255, NONE = -1 };
enum { READY = 0x52545431, BOOT = 0x42545431, CONFIRM = 0x43545431, REJECT = 0x4A545431, FLOOR = 0x46545431 };
enum { TOTAL = 4, CLASS = 8, SEQUENCE = 24, FIRMWARE = 28, PACKET = 36, DIGEST = 40, SIGNED = 72 }; /* in the header */
enum { OF_FIRMWARE = 16 }; /* in the packet: for which firmware */
static const uint8_t context[] = "edgeticket-update 1\n";
enum { CONTEXT = sizeof context - 1 };

static uint32_t get(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static int same(const uint8_t *a, const uint8_t *b, uint32_t count)
{
    for (; count && *a == *b; count--) {
        a++;
        b++;
    }
    return !count;
}

static int filled(const uint8_t *at, uint32_t count, uint8_t with)
{
    for (; count && *at == with; count--)
        at++;
    return !count;
}

static uint32_t crc32(const uint8_t *at, uint32_t count)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (; count; count--) {
        crc ^= *at++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1u ? 0xEDB88320u : 0u);
    }
    return ~crc;
}

/* SHA-256: FIPS 180-4. */
static const uint32_t round_constants[64] = {
    0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
    0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
    0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
    0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
    0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
    0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
    0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
    0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2};

static uint32_t rotated(uint32_t value, unsigned by) { return value >> by | value << (32 - by); }

/* Byte i of the message, padded to `end` bytes. */
static uint8_t padded(const uint8_t *message, uint32_t count, uint32_t end, uint32_t i)
{
    if (i < count)
        return message[i];
    if (i < end - 8)
        return i == count ? 0x80 : 0;
    return (uint8_t)((uint64_t)count * 8 >> 8 * (end - 1 - i));
}

#define V(k) v[((k) - i) & 7u] /* the working variables a to h, which move by one place each round */

static void compress(uint32_t state[8], uint32_t w[16])
{
    uint32_t v[8];
    memcpy(v, state, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        if (i >= 16) {
            const uint32_t early = w[(i + 1) & 15u], late = w[(i + 14) & 15u];
            w[i & 15u] += w[(i + 9) & 15u] + (rotated(early, 7) ^ rotated(early, 18) ^ early >> 3)
                          + (rotated(late, 17) ^ rotated(late, 19) ^ late >> 10);
        }
        const uint32_t a = V(0), e = V(4), choice = (e & V(5)) ^ (~e & V(6)), majority = (a & V(1)) ^ (a & V(2)) ^ (V(1) & V(2));
        const uint32_t one = V(7) + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + choice + round_constants[i] + w[i & 15u];
        V(3) += one;
        V(7) = one + (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + majority;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

static void sha256(const uint8_t *message, uint32_t count, uint8_t digest[32])
{
    uint32_t state[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
    const uint32_t end = (count + 72) / 64 * 64;
    for (uint32_t i = 0; i < end;) {
        uint32_t w[16] = {0};
        for (unsigned k = 0; k < 64; k++)
            w[k / 4] = w[k / 4] << 8 | padded(message, count, end, i++);
        compress(state, w);
    }
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(state[i / 4] >> 8 * (3 - i % 4));
}

/* Notes */

static uint32_t place_bytes(const et_slots_config *c) { return c->unit > RECORD ? c->unit : RECORD; }
static uint32_t room(const et_slots_config *c) { return c->sector * c->sectors - RECORDS * place_bytes(c); }
static const uint8_t *update_in(const et_slots_config *c, int slot) { return c->slot[slot] + RECORDS * place_bytes(c); }

typedef struct {
    uint32_t used, ready, confirmed, tries; /* places; the sequence noted, 0: none; boots on trial */
    uint32_t highest;                       /* sequence known to have been confirmed, of this slot or of another */
    int rejected;
} history;

static history history_of(const et_slots_config *c, int slot)
{
    history h = {0};
    for (uint32_t i = 0; i < RECORDS; i++) {
        const uint8_t *place = c->slot[slot] + i * place_bytes(c);
        if (filled(place, place_bytes(c), 0xFF))
            continue;
        const uint32_t sequence = get(place + 4), kind = get(place + 12) == crc32(place, 12) ? get(place) : 0;
        h.used = i + 1;
        if (kind == READY)
            h.ready = sequence;
        else if (kind == CONFIRM)
            h.confirmed = sequence;
        else if (kind == REJECT)
            h.rejected = 1;
        else if (kind == BOOT)
            h.tries++;
        if ((kind == CONFIRM || kind == FLOOR) && sequence > h.highest)
            h.highest = sequence;
    }
    return h;
}

static uint32_t highest_of(const et_slots_config *c)
{
    const uint32_t a = history_of(c, 0).highest, b = history_of(c, 1).highest, slots = a > b ? a : b;
    return slots > c->sequence ? slots : c->sequence;
}

static int program(const et_slots_config *c, const uint8_t *at, const uint8_t *bytes)
{
    return c->program(at, bytes) || !same(at, bytes, c->unit) ? ET_SLOTS_FLASH : ET_SLOTS_OK;
}

static int note(const et_slots_config *c, int slot, uint32_t kind, uint32_t sequence)
{
    uint8_t bytes[ET_SLOTS_UNIT];
    const uint32_t used = history_of(c, slot).used, size = place_bytes(c);
    if (used == RECORDS)
        return ET_SLOTS_FULL;
    memset(bytes, 0xFF, sizeof bytes);
    put(bytes, kind);
    put(bytes + 4, sequence);
    put(bytes + 12, crc32(bytes, 12));
    for (uint32_t i = 0; i < size; i += c->unit)
        if (program(c, c->slot[slot] + used * size + i, bytes + i))
            return ET_SLOTS_FLASH;
    return ET_SLOTS_OK;
}

/* Checks */

static int signature_wrong(const et_slots_config *c, const uint8_t *header)
{
    uint8_t message[CONTEXT + SIGNED];
    memcpy(message, context, CONTEXT);
    memcpy(message + CONTEXT, header, SIGNED);
    if (filled(header + SIGNED, 64, 0))
        return ET_SLOTS_UNSIGNED;
    return c->verify(header + SIGNED, message, sizeof message) ? ET_SLOTS_SIGNATURE : ET_SLOTS_OK;
}

static int header_wrong(const et_slots_config *c, const uint8_t *header)
{
    static const uint8_t magic[4] = "ETU1";
    uint8_t digest[32];
    uint32_t length = 0;
    const uint32_t total = get(header + TOTAL);
    if (!same(header, magic, 4) || total < ET_SLOTS_HEADER + OF_FIRMWARE + 8 || get(header + PACKET) != total - ET_SLOTS_HEADER)
        return ET_SLOTS_FORMAT;
    if (total > room(c))
        return ET_SLOTS_TOO_LARGE;
    const int wrong = signature_wrong(c, header);
    if (wrong)
        return wrong;
    while (length < CLASS_BYTES && c->target_class[length])
        length++;
    sha256((const uint8_t *)c->target_class, length, digest);
    if (!same(header + CLASS, digest, 16))
        return ET_SLOTS_CLASS;
    return same(header + FIRMWARE, c->firmware, 8) ? ET_SLOTS_OK : ET_SLOTS_FIRMWARE;
}

static int sequence_wrong(const et_slots_config *c, uint32_t sequence)
{
    const uint32_t highest = highest_of(c);
    if (sequence <= highest)
        return ET_SLOTS_OLD;
    return c->jump && sequence - highest > c->jump ? ET_SLOTS_JUMP : ET_SLOTS_OK;
}

/* All of an update as it lies in flash, where it will be used. */
static int update_wrong(const et_slots_config *c, int slot)
{
    const uint8_t *update = update_in(c, slot);
    uint8_t digest[32];
    const int wrong = header_wrong(c, update);
    if (wrong)
        return wrong;
    sha256(update + ET_SLOTS_HEADER, get(update + PACKET), digest);
    if (!same(update + DIGEST, digest, 32))
        return ET_SLOTS_DIGEST;
    return same(update + ET_SLOTS_HEADER + OF_FIRMWARE, c->firmware, 8) ? ET_SLOTS_OK : ET_SLOTS_FIRMWARE;
}

/* Which model */

static int geometry_wrong(const et_slots_config *c)
{
    if (!c->unit || c->unit > ET_SLOTS_UNIT || c->unit & (c->unit - 1) || !c->sector || c->sector % c->unit || !c->sectors
        || c->sectors > 0x7FFFFFFFu / c->sector || !c->trials || c->trials > ET_SLOTS_TRIALS)
        return 1;
    const uintptr_t a = (uintptr_t)c->slot[0], b = (uintptr_t)c->slot[1];
    const uint32_t size = c->sector * c->sectors;
    return a % c->sector || b % c->sector || (a < b ? b - a : a - b) < size || size < RECORDS * place_bytes(c) + ET_SLOTS_HEADER;
}

static int use(et_slots *s, et_slots_model *model, int slot, int trial)
{
    const uint8_t *update = update_in(s->config, slot);
    s->running = slot;
    s->trial = trial;
    *model = (et_slots_model){slot, trial, update + ET_SLOTS_HEADER, get(update + PACKET), get(update + SEQUENCE)};
    return ET_SLOTS_OK;
}

/* Whether the notes of a slot are of the update in it, and that is good. */
static int good(const et_slots_config *c, int slot, const history *h)
{
    return h->ready > c->sequence && h->ready == get(update_in(c, slot) + SEQUENCE) && !update_wrong(c, slot);
}

int et_slots_boot(et_slots *s, const et_slots_config *c, et_slots_model *model)
{
    static const et_slots_model none = {NONE, 0, 0, 0, 0};
    memset(s, 0, sizeof *s);
    *model = none;
    s->running = s->target = NONE;
    if (geometry_wrong(c))
        return ET_SLOTS_GEOMETRY;
    s->config = c;
    const history h[2] = {history_of(c, 0), history_of(c, 1)};
    const int newer = h[1].ready > h[0].ready;
    for (int i = 0; i < 2; i++) {
        const int slot = newer ^ i;
        if (h[slot].ready > highest_of(c) && !h[slot].rejected && h[slot].tries < c->trials && good(c, slot, &h[slot])
            && !note(c, slot, BOOT, h[slot].ready))
            return use(s, model, slot, 1);
    }
    for (int i = 0; i < 2; i++) {
        const int slot = newer ^ i;
        if (h[slot].confirmed == h[slot].ready && good(c, slot, &h[slot]))
            return use(s, model, slot, 0);
    }
    return ET_SLOTS_OK;
}

static int decide(et_slots *s, uint32_t kind)
{
    if (!s->trial)
        return ET_SLOTS_STATE;
    const int wrong = note(s->config, s->running, kind, get(update_in(s->config, s->running) + SEQUENCE));
    if (!wrong)
        s->trial = 0;
    if (!wrong && kind == REJECT)
        s->config = 0; /* nothing more before the reset: what it will use is in the other slot */
    return wrong;
}

int et_slots_confirm(et_slots *s) { return decide(s, CONFIRM); }
int et_slots_reject(et_slots *s) { return decide(s, REJECT); }

/* An update */

int et_slots_begin(et_slots *s, uint32_t total)
{
    s->target = NONE;
    if (!s->config || s->trial)
        return ET_SLOTS_STATE;
    if (total > room(s->config))
        return ET_SLOTS_TOO_LARGE;
    s->target = s->running != NONE ? !s->running : history_of(s->config, 1).highest < history_of(s->config, 0).highest;
    s->total = total;
    s->received = 0;
    return ET_SLOTS_OK;
}

/* Erase a slot, and before it keep what only its notes say: the highest sequence that was confirmed. */
static int clear(const et_slots_config *c, int slot)
{
    const uint32_t known = history_of(c, slot).highest;
    const int wrong = known > history_of(c, !slot).highest ? note(c, !slot, FLOOR, known) : ET_SLOTS_OK;
    if (wrong)
        return wrong;
    for (uint32_t i = c->sectors; i--;) { /* the notes last: without them it is forgotten that a model failed */
        const uint8_t *sector = c->slot[slot] + i * c->sector;
        if (c->erase(sector) || !filled(sector, c->sector, 0xFF))
            return ET_SLOTS_FLASH;
    }
    return ET_SLOTS_OK;
}

/* One byte of the update, the `at`-th, to flash; units are written when they are full, and the last one when it is the last. */
static int store(et_slots *s, uint32_t at, uint8_t byte)
{
    const et_slots_config *c = s->config;
    const uint32_t in_unit = at % c->unit;
    if (!in_unit)
        memset(s->unit, 0xFF, sizeof s->unit);
    s->unit[in_unit] = byte;
    if (in_unit != c->unit - 1 && at != s->total - 1)
        return ET_SLOTS_OK;
    return program(c, update_in(c, s->target) + at - in_unit, s->unit);
}

static int header_done(et_slots *s)
{
    int wrong = header_wrong(s->config, s->header);
    if (!wrong && get(s->header + TOTAL) != s->total)
        wrong = get(s->header + TOTAL) < s->total ? ET_SLOTS_EXTRA : ET_SLOTS_SHORT;
    if (!wrong)
        wrong = sequence_wrong(s->config, get(s->header + SEQUENCE));
    if (!wrong)
        wrong = clear(s->config, s->target);
    for (uint32_t i = 0; !wrong && i < ET_SLOTS_HEADER; i++)
        wrong = store(s, i, s->header[i]);
    return wrong;
}

static int take(et_slots *s, uint8_t byte)
{
    const uint32_t at = s->received++;
    if (at >= s->total)
        return ET_SLOTS_EXTRA;
    if (at >= ET_SLOTS_HEADER)
        return store(s, at, byte);
    s->header[at] = byte;
    return at == ET_SLOTS_HEADER - 1 ? header_done(s) : ET_SLOTS_OK;
}

int et_slots_write(et_slots *s, const uint8_t *bytes, uint32_t count)
{
    if (s->target == NONE)
        return ET_SLOTS_STATE;
    for (; count; count--) {
        const int wrong = take(s, *bytes++);
        if (wrong) {
            s->target = NONE;
            return wrong;
        }
    }
    return ET_SLOTS_OK;
}

int et_slots_finish(et_slots *s)
{
    const int slot = s->target;
    s->target = NONE;
    if (slot == NONE)
        return ET_SLOTS_STATE;
    if (s->received != s->total || s->total < ET_SLOTS_HEADER)
        return ET_SLOTS_SHORT;
    const int wrong = update_wrong(s->config, slot);
    return wrong ? wrong : note(s->config, slot, READY, get(update_in(s->config, slot) + SEQUENCE));
}
