#if !defined(ET_NEEDS_LISTS) || defined(ET_NEEDS_BOOT)
/* Where each weight of a filter reads, for et_decode. */
static void et_places(const et_fan *fan, et_offset *places) {
  et_offset base = 0;
  for (uint32_t c = 0; c < fan->inputs; c++, base = (et_offset)(base + fan->plane))
    for (uint32_t t = 0; t < fan->taps; t++) *places++ = (et_offset)(base + fan->tap[t]);
}
#endif
#ifdef ET_NEEDS_LISTS
#define ET_FIND_PLACES(fan, places) ((void)0)
#else
#define ET_FIND_PLACES(fan, places) et_places(fan, places)
#endif
