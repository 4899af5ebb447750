/* Decode the lists of all filters into RAM, once. */
static void et_boot(const et_conv *g, const uint8_t *weights, const uint8_t *seed, et_offset *list, et_offset *lists,
                    uint16_t *counts) {
  et_masks masks;
  (void)et_masks_open(&masks, weights, seed, g->layer);
  if (g->fan.tap) et_places(&g->fan, list + ET_LIST);
  for (uint32_t f = 0; f < g->filters; f++) {
    et_decode(&masks, &g->fan, g->fan.tap ? list + ET_LIST : 0, list);
    memcpy(lists, masks.added, masks.plus * sizeof *lists); lists += masks.plus; *counts++ = (uint16_t)masks.plus;
    memcpy(lists, masks.taken, masks.minus * sizeof *lists); lists += masks.minus; *counts++ = (uint16_t)masks.minus;
  }
}
