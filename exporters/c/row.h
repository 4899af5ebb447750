/* Weights of a filter as int8, one after the other; `fan` numbers them. */
static void et_row(et_masks *m, const et_fan *fan, et_offset *list, int8_t *row) {
  et_decode(m, fan, 0, list);
  memset(row, 0, (uint32_t)fan->inputs * fan->taps);
  for (const et_offset *o = list, *end = list + m->plus; o < end;) row[*o++]++;
  for (const et_offset *o = list + ET_LIST - m->minus, *end = list + ET_LIST; o < end;) row[*o++]--;
}
