#define ET_TILE 16 /* neighbouring positions that are summed up together */
