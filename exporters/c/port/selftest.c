
/* From here on the same for every network: runs all vectors, compares every code, and says what an inference costs. */
void et_print(const char *text);
uint32_t et_stack(int (*run)(unsigned), unsigned i);
uint64_t et_cost(int (*run)(unsigned), unsigned i);

#if defined(NAME_SERIAL)

#include "serial.c"

#elif defined(NAME_SIZE_ONLY)

int main(void)
{
#if defined(NAME_UPDATABLE) || defined(NAME_NO_MODEL)
    const int status = NAME_load((const uint8_t *)et_in0, sizeof et_in0);
    return status ? status : et_infer(0);
#else
    return et_infer(0);
#endif
}

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

#if defined(NAME_UPDATABLE) || defined(NAME_NO_MODEL)
static int et_load_packet(unsigned size) { return NAME_load(et_packet, (uint32_t)size); }
#endif

/* 0: every code of every vector is right; 1: some are wrong; 2: the network refused a vector. */
static int et_pass(void)
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

/* Of a network whose model is data too: nothing without one, the built-in one as it is, one cut short refused, the whole taken. */
static int et_selftest(void)
{
#if defined(NAME_NO_MODEL)
    static int loaded;
    if (!loaded && et_infer(0) != 1) {
        et_print("self-test: NAME_predict ran without a model: FAILED\n");
        return 2;
    }
    loaded = 1;
#elif defined(NAME_UPDATABLE)
    const int built_in = et_pass();
    if (built_in)
        return built_in;
#endif
#if defined(NAME_UPDATABLE) || defined(NAME_NO_MODEL)
    const int cut = et_load_packet(sizeof et_packet - 1), whole = et_load_packet(sizeof et_packet);
    et_print_row("self-test: NAME_load of a packet cut short, and whole: ", (uint64_t)cut, ", ");
    et_print_row("", (uint64_t)whole, cut == 1 && !whole ? ": passed\n" : ": FAILED\n");
    if (cut != 1 || whole)
        return 2;
#endif
    return et_pass();
}

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'

int main(void)
{
    uint32_t stack = et_stack(et_infer, 0); /* first: an overflow spoils everything behind it */
#if defined(NAME_NO_MODEL)
    const int empty = et_selftest();
    if (empty)
        return empty;
    stack = et_stack(et_infer, 0);
#endif
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
#if defined(NAME_UPDATABLE) || defined(NAME_NO_MODEL)
    et_print_row("load_instructions ", et_cost(et_load_packet, sizeof et_packet), "\n");
    et_print_row("load_stack_bytes ", et_stack(et_load_packet, sizeof et_packet), "\n");
#endif
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
