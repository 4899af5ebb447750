/* Lists are decoded when their filter is due. */
#define et_terms et_masks
#define et_terms_open(t, g, k, seed) et_masks_open(t, k, seed, (g)->layer)
#define et_terms_next(t, g, places, list) et_decode(t, &(g)->fan, places, list)
