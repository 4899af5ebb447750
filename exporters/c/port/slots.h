/* Two places for a model in flash. An update goes to the one that is not in use, is checked, is used on trial, and is kept
   once the application confirms it; else the old model comes back by itself. A power cut at any moment leaves one of the two.
   Add slots.c and slots.h to a firmware whose NAME.c was compiled with -DNAME_UPDATABLE or -DNAME_NO_MODEL. */
#ifndef ET_SLOTS_H
#define ET_SLOTS_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

enum { ET_SLOTS_HEADER = 136, ET_SLOTS_UNIT = 32, ET_SLOTS_TRIALS = 8 }; /* bytes before the packet; largest unit; most trials */

typedef struct {
    const uint8_t *slot[2]; /* where each is read; it begins a sector: its address is a multiple of `sector` */
    uint32_t sector, sectors, unit; /* bytes erased at a time; sectors of a slot; bytes programmed at a time: 1, 2, 4 to 32 */
    int (*erase)(const uint8_t *sector); /* to 0xFF. 0: done */
    int (*program)(const uint8_t *at, const uint8_t *bytes); /* one unit, which is erased. 0: done */
    int (*verify)(const uint8_t signature[64], const uint8_t *message, size_t size); /* Ed25519 by your key or keys. 0: good */
    const char *target_class; /* that an update must name; at most 255 bytes */
    uint8_t firmware[8];      /* NAME_PLAN_DIGEST */
    uint32_t sequence;        /* of the model built in, 0 without one: a model in a slot has a higher one */
    uint32_t jump;            /* most by which a sequence may be above the highest that was confirmed; 0: any */
    uint8_t trials;           /* boots that a model has to be confirmed in, 1 to 8 */
} et_slots_config;

typedef struct {
    int slot;  /* -1: none, use the model that is built in */
    int trial; /* 1: not confirmed yet */
    const uint8_t *packet; /* for NAME_load; it stays there unchanged until the next et_slots_boot */
    uint32_t size, sequence;
} et_slots_model;

/* All state in RAM; yours to place, not to touch. */
typedef struct {
    const et_slots_config *config;
    int running, trial, target;
    uint32_t total, received;
    uint8_t header[ET_SLOTS_HEADER], unit[ET_SLOTS_UNIT];
} et_slots;

enum {
    ET_SLOTS_OK,
    ET_SLOTS_GEOMETRY,  /* the configuration makes no sense */
    ET_SLOTS_STATE,     /* not now: a model is on trial, or none is; or no update was begun, or it was refused */
    ET_SLOTS_TOO_LARGE, /* for a slot */
    ET_SLOTS_EXTRA,     /* more bytes than announced */
    ET_SLOTS_SHORT,     /* fewer bytes than announced */
    ET_SLOTS_FORMAT,    /* not an update, or its lengths contradict each other */
    ET_SLOTS_UNSIGNED,  /* no signature */
    ET_SLOTS_SIGNATURE, /* the signature is of another key or of other bytes */
    ET_SLOTS_CLASS,     /* for another class of devices */
    ET_SLOTS_FIRMWARE,  /* for another firmware */
    ET_SLOTS_OLD,       /* the sequence is not above the highest that was confirmed */
    ET_SLOTS_JUMP,      /* the sequence is too far above it */
    ET_SLOTS_DIGEST,    /* the packet is not the one that was signed */
    ET_SLOTS_FLASH,     /* the flash did not take what was written */
    ET_SLOTS_FULL       /* no place left for a note */
};

/* First after every reset: which model to use. Not 0 only for ET_SLOTS_GEOMETRY; then there is none in the slots. */
int et_slots_boot(et_slots *slots, const et_slots_config *config, et_slots_model *model);

/* An update: its length, then its bytes in any portions, then the end. At the first answer that is not 0 it is refused, and all
   that was in use still is. Nothing is erased before its header, and with it the signature, was found good. At the end: reset. */
int et_slots_begin(et_slots *slots, uint32_t total);
int et_slots_write(et_slots *slots, const uint8_t *bytes, uint32_t count);
int et_slots_finish(et_slots *slots);

/* Of a model on trial: keep it, or never use it again. Without either it has the trials of the configuration. */
int et_slots_confirm(et_slots *slots);
int et_slots_reject(et_slots *slots);

#ifdef __cplusplus
}
#endif
#endif
