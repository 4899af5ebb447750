
/* From here on the same for every network: runs all vectors, compares every code, and says what an inference costs. */
void et_print(const char *text);
uint32_t et_stack(int (*run)(unsigned), unsigned i);
uint64_t et_cost(int (*run)(unsigned), unsigned i);

#if defined(NAME_SERIAL)

#include "serial.c"

#elif defined(NAME_SIZE_ONLY)

int main(void) { return et_infer(0); }

#else

static void et_print_number(uint64_t value)
{
    char text[21], *digit = text + 20;
    *digit = 0;
    do
        *--digit = (char)('0' + value % 10);
    while (value /= 10);
    et_print(digit);
}

static void et_print_row(const char *name, uint64_t value, const char *rest)
{
    et_print(name);
    et_print_number(value);
    et_print(rest);
}

/* 0: every code of every vector is right; 1: some are wrong; 2: the network refused a vector. */
static int et_selftest(void)
{
    uint64_t wrong = 0;
    for (unsigned i = 0; i < ET_VECTORS; i++) {
        const int status = et_infer(i);
        if (status) {
            et_print_row("self-test: NAME_predict refused vector ", i, "\n");
            return 2;
        }
        wrong += et_wrong(i);
    }
    et_print_row("self-test: ", ET_VECTORS, " vectors, ");
    et_print_row("", wrong, wrong ? " codes wrong: FAILED\n" : " codes wrong: passed\n");
    return wrong != 0;
}

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'

int main(void)
{
    const uint32_t stack = et_stack(et_infer, 0); /* first: an overflow spoils everything behind it */
    if (stack == UINT32_MAX) {
        et_print("self-test: stack overflow\n");
        return 3;
    }
    const int failed = et_selftest();
    if (failed)
        return failed;
    et_print_row("stack_bytes ", stack, "\ninstructions");
    for (unsigned i = 0; i < ET_VECTORS; i++)
        et_print_row(" ", et_cost(et_infer, i), "");
    et_print("\n");
    return 0;
}

#else

#include <stdlib.h>

/* Without arguments: the self-test. With WARMUP and RUNS: a line of nanoseconds for each of so many inferences. */
int main(int count, char **words)
{
    if (count < 3)
        return et_selftest();
    const unsigned long warmup = strtoul(words[1], 0, 10), runs = strtoul(words[2], 0, 10);
    for (unsigned long i = 0; i < warmup; i++)
        et_infer((unsigned)(i % ET_VECTORS));
    for (unsigned long i = 0; i < runs; i++)
        et_print_row("", et_cost(et_infer, (unsigned)(i % ET_VECTORS)), "\n");
    return 0;
}

#endif
#endif
