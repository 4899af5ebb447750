/* What the self-test needs from where it runs: a start, a way to print, the stack that a call takes, and a clock.
   Not part of a product. A computer with an operating system, or any Cortex-M that offers semihosting (QEMU, a debugger). */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#endif
#include <stdint.h>

void et_print(const char *text);
uint32_t et_stack(int (*run)(unsigned), unsigned i);
uint64_t et_cost(int (*run)(unsigned), unsigned i);

#if !defined(__ARM_ARCH_PROFILE) || __ARM_ARCH_PROFILE != 'M'

#include <stdio.h>
#include <time.h>

void et_print(const char *text) { fputs(text, stdout); }

/* Nanoseconds of run(i). */
uint64_t et_cost(int (*run)(unsigned), unsigned i)
{
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run(i);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (uint64_t)(end.tv_sec - begin.tv_sec) * 1000000000u + (uint64_t)end.tv_nsec - (uint64_t)begin.tv_nsec;
}

#else

void et_stack_top(void); /* an address, of the linker's */
extern volatile uint32_t et_stack_low;
extern uint32_t et_data_load, et_data_start, et_data_end, et_bss_start, et_bss_end;
int main(void);
void et_reset(void);
void et_tick(void);
uint64_t et_ticks(void);
int et_spin(unsigned n);

/* Semihosting: Arm, "Semihosting for AArch32 and AArch64". */
static int semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void et_print(const char *text) { semihost(0x04, text); } /* SYS_WRITE0 */

__attribute__((noreturn)) static void leave(int status)
{
    const uint32_t block[2] = {0x20026u, (uint32_t)status}; /* ADP_Stopped_ApplicationExit */
    for (;;)
        semihost(0x20, block); /* SYS_EXIT_EXTENDED */
}

#define PAINT 0xA5C35A3Cu /* of free stack: et_stack paints it before anything else is run */

__attribute__((used, noreturn)) static void fault(uintptr_t stack)
{
    const int overflow = et_stack_low != PAINT || stack < (uintptr_t)&et_stack_low;
    et_print(overflow ? "self-test: stack overflow\n" : "self-test: processor fault (on Cortex-M0 an unaligned access is one)\n");
    leave(overflow ? 3 : 99);
}

/* With a stack of its own: the other may be what is broken. */
__attribute__((naked)) static void et_fault(void)
{
    __asm__ volatile(".syntax unified\n mov r0, sp\n ldr r1, 1f\n mov sp, r1\n bl fault\n .balign 4\n 1: .word et_stack_top\n");
}

__attribute__((section(".vectors"), used)) void (*const et_vectors[16])(void) = {
    et_stack_top, et_reset, et_fault, et_fault, et_fault, et_fault, et_fault, 0, 0, 0, 0, et_fault, et_fault, 0, et_fault, et_tick,
};

/* volatile: the compiler shall not call memcpy or memset here, which would then look as if the network did not need them. */
__attribute__((used, noreturn)) static void start(void)
{
    volatile uint32_t *to = &et_data_start;
    const volatile uint32_t *from = &et_data_load;
    while (to < &et_data_end)
        *to++ = *from++;
    for (to = &et_bss_start; to < &et_bss_end;)
        *to++ = 0;
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: the compiler may use these registers */
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    leave(main());
}

__attribute__((naked, noreturn)) void et_reset(void) { __asm__ volatile("bl start"); }

/* Bytes of stack that run(i) writes, found by painting what is free; UINT32_MAX when it reached the end. */
__attribute__((noinline)) uint32_t et_stack(int (*run)(unsigned), unsigned i)
{
    volatile uint32_t *const low = &et_stack_low, *here, *word;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    for (word = low; word < here; word++)
        *word = PAINT;
    run(i);
    for (word = low; word < here && *word == PAINT;)
        word++;
    return word == low ? UINT32_MAX : (uint32_t)((uintptr_t)here - (uintptr_t)word);
}

/* Instructions, to one instruction. Under `qemu-system-arm -icount shift=0` each takes 1 ns of the emulated clock, but SysTick
   counts at f MHz only, 16 to 32. The sum of 1000 readings that are an odd multiple of 1 ns apart, not of 5, is f * t + constant
   exactly, as the fractions that are cut off are the same ones at every t (Hermite's identity): a vernier. f comes from a
   loop of known length. SysTick wraps after 2^24 ticks; the interrupt counts that. On silicon the result means nothing. */
#define SYSTICK ((volatile uint32_t *)0xE000E010u) /* control, reload, value */
enum { TICK_INSTRUCTIONS = 5, READINGS = 1000 };
static volatile uint32_t wraps;

__attribute__((naked)) void et_tick(void)
{
    __asm__ volatile(".syntax unified\n"
                     "ldr r0, 1f\n ldr r1, [r0]\n adds r1, r1, #1\n str r1, [r0]\n bx lr\n"
                     ".balign 4\n 1: .word wraps\n");
}

/* 2 n + 1 instructions, n > 0. */
__attribute__((naked)) int et_spin(unsigned n)
{
    (void)n;
    __asm__ volatile(".syntax unified\n 1: subs r0, r0, #1\n bne 1b\n bx lr\n");
}

static uint64_t now(void)
{
    uint32_t n = READINGS, sum = 0, value, wrapped;
    __asm__ volatile("cpsid i" ::: "memory");
    const uint32_t first = SYSTICK[2];
    __asm__ volatile(".syntax unified\n" /* 7 instructions a reading: of ticks since the first */
                     "1: ldr %2, [%3, #8]\n subs %2, %4, %2\n lsls %2, %2, #8\n lsrs %2, %2, #8\n"
                     "adds %0, %0, %2\n subs %1, %1, #1\n bne 1b\n"
                     : "+l"(sum), "+l"(n), "=&l"(value)
                     : "l"(SYSTICK), "l"(first)
                     : "cc", "memory");
    wrapped = (-SYSTICK[2] & 0xFFFFFFu) < (-first & 0xFFFFFFu); /* in between, and not counted before the next line */
    __asm__ volatile("cpsie i\n isb" ::: "memory");
    return (((uint64_t)(wraps - wrapped) << 24) + (-first & 0xFFFFFFu)) * READINGS + sum;
}

static void start_clock(void)
{
    SYSTICK[1] = 0xFFFFFFu;
    SYSTICK[2] = 0;
    SYSTICK[0] = 7; /* processor clock, interrupt, on */
    while (SYSTICK[2] == 0) {
    }
    wraps = 0;
}

__attribute__((noinline)) static uint64_t sampled(int (*run)(unsigned), unsigned i)
{
    start_clock();
    const uint64_t begin = now();
    run(i);
    const uint64_t spent = now() - begin;
    SYSTICK[0] = 0;
    return spent;
}

/* Ticks of the processor's clock since the first call. */
uint64_t et_ticks(void)
{
    uint32_t before, phase;
    if (!SYSTICK[0])
        start_clock();
    do {
        before = wraps;
        phase = -SYSTICK[2] & 0xFFFFFFu;
    } while (before != wraps);
    return ((uint64_t)before << 24) + phase;
}

/* Instructions of run(i), its return included. */
uint64_t et_cost(int (*run)(unsigned), unsigned i)
{
    const uint64_t three = sampled(et_spin, 1), more = sampled(et_spin, 501), all = sampled(run, i);
    return (all - three) * 1000u / (more - three) + 3u - (uint64_t)wraps * TICK_INSTRUCTIONS;
}

#endif
