/* QEMU's mps2-an386: start-up, serial line, watchdog, and a flash. The board has none that a program can write: RAM that outlives a
   reset stands for it, with a flash's rules. */
#include "board.h"
#include <string.h>

void et_stack_top(void); /* this and the next line: addresses, of the linker's (cortex-m.ld) */
extern uint32_t et_data_load, et_data_start, et_data_end, et_bss_start, et_bss_end;
int main(void);
void et_reset(void);

#define SERIAL ((volatile uint32_t *)0x40004000u)   /* Arm CMSDK UART: data, state, control, interrupts, divisor */
#define WATCHDOG ((volatile uint32_t *)0x40008000u) /* Arm CMSDK watchdog: load, value, control, clear */
#define SYSTICK ((volatile uint32_t *)0xE000E010u)  /* control, reload, value */
#define RESET ((volatile uint32_t *)0xE000ED0Cu)    /* AIRCR */
#define POWERED ((volatile uint32_t *)(FLASH + 0x10000u)) /* behind the flash */
enum { CLOCK_HZ = 25000000, ERASED = 0x46524553 };
enum { ROUND = 1 << 24, ROUNDS = 3, PASSED = 1 << 16 }; /* of SysTick: 0.67 s each; its flag */

static void fault(void) { board_reset(); }
static void bite(void) {} /* the watchdog's first warning; at its second one the board is reset */

__attribute__((section(".vectors"), used)) void (*const vectors[16])(void) = {
    et_stack_top, et_reset, bite, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, fault,
};

__attribute__((used, noreturn)) static void start(void)
{
    memcpy(&et_data_start, &et_data_load, (uintptr_t)&et_data_end - (uintptr_t)&et_data_start);
    memset(&et_bss_start, 0, (uintptr_t)&et_bss_end - (uintptr_t)&et_bss_start);
    main();
    board_reset();
}

__attribute__((naked, noreturn)) void et_reset(void) { __asm__ volatile("bl start"); }

void board_start(void)
{
    SERIAL[4] = CLOCK_HZ / 115200;
    SERIAL[2] = 3; /* send and receive */
    WATCHDOG[0] = CLOCK_HZ / 4;
    WATCHDOG[2] = 3; /* warn, then reset */
    SYSTICK[1] = ROUND - 1;
    SYSTICK[0] = 5; /* on, by the processor's clock, no interrupt */
    if (*POWERED != ERASED)
        memset((void *)FLASH, 0xFF, 2 * SECTOR * SECTORS);
    *POWERED = ERASED;
}

void board_feed(void) { WATCHDOG[3] = 1; }

void board_reset(void)
{
    *RESET = 0x05FA0004u;
    for (;;) {
    }
}

int board_read(void)
{
    SYSTICK[2] = 0;
    for (int rounds = 0; !(SERIAL[1] & 2u);) {
        board_feed();
        rounds += (SYSTICK[0] & PASSED) != 0;
        if (rounds == ROUNDS)
            return -1;
        for (volatile int i = 0; i < 100; i++) {
        } /* a byte takes longer to come, and looking takes QEMU long */
    }
    return (uint8_t)SERIAL[0];
}

void board_write(const char *text)
{
    for (; *text; text++) {
        while (SERIAL[1] & 1u) {
        }
        SERIAL[0] = (uint8_t)*text;
    }
}

void board_number(const char *name, uint32_t value)
{
    char text[11], *digit = text + 10;
    *digit = 0;
    do
        *--digit = (char)('0' + value % 10);
    while (value /= 10);
    board_write(name);
    board_write(digit);
}

int flash_erase(const uint8_t *sector)
{
    memset((void *)(uintptr_t)sector, 0xFF, SECTOR);
    board_feed();
    return 0;
}

int flash_program(const uint8_t *at, const uint8_t *bytes)
{
    uint8_t *cell = (uint8_t *)(uintptr_t)at;
    for (int i = 0; i < UNIT; i++)
        cell[i] &= bytes[i];
    return 0;
}
