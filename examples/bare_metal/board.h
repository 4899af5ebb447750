/* What main.c needs of a board; board.c has it for QEMU's mps2-an386 (Cortex-M4). For yours: these functions in a file of your own. */
#include <stddef.h>
#include <stdint.h>

enum { SECTOR = 4096, SECTORS = 2, UNIT = 8 }; /* of its flash, as board.c plays it: a slot of 8 KB, programmed 8 bytes at a time */
#define FLASH 0x21000000u

void board_start(void);
void board_feed(void); /* the watchdog: half a second without it, and it resets the board */
__attribute__((noreturn)) void board_reset(void);
int board_read(void); /* a byte, or -1 after two seconds without one; feeds meanwhile */
void board_write(const char *text);
void board_number(const char *name, uint32_t value);

int flash_erase(const uint8_t *sector);
int flash_program(const uint8_t *at, const uint8_t *bytes);
int verify(const uint8_t signature[64], const uint8_t *message, size_t size);
