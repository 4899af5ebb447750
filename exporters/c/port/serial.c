/* NAME_predict at the end of a serial line, 115200 8N1, for `edgeticket bench --on serial:DEVICE` and other programs that speak
   the text protocol of MLPerf Tiny (mlcommons/tiny, benchmark/api). A command ends in %, an answer in the line m-ready:
     name  profile  timestamp  results  db load N  db HEX...  infer N W
   Energy is not measured: no pin marks the inferences for a meter.
   ET_INPUTS(X) and ET_OUTPUTS(X) are X(array) of each buffer. Included by NAME_selftest.c under -D NAME_SIZE_ONLY -D NAME_SERIAL (`make serial`). As it stands: the boards mps2-an385, an386
   and an500. For yours: -D ET_OWN_BOARD, and these four functions in a file of your own. */
#include <string.h>

void et_uart_start(void);
void et_uart_write(char byte);
char et_uart_read(void); /* waits for it */
uint32_t et_microseconds(void);

#if !defined(ET_OWN_BOARD)

#define ET_UART ((volatile uint32_t *)0x40004000u) /* Arm CMSDK UART: data, state, control, interrupts, divisor */
#define ET_CLOCK_HZ 25000000u
uint64_t et_ticks(void);

void et_uart_start(void)
{
    ET_UART[4] = ET_CLOCK_HZ / 115200u;
    ET_UART[2] = 3; /* send and receive */
}

void et_uart_write(char byte)
{
    while (ET_UART[1] & 1u) {
    }
    ET_UART[0] = (uint8_t)byte;
}

char et_uart_read(void)
{
    while (!(ET_UART[1] & 2u)) {
    }
    return (char)ET_UART[0];
}

uint32_t et_microseconds(void) { return (uint32_t)(et_ticks() / (ET_CLOCK_HZ / 1000000u)); }

#endif

#define ET_SIZE_OF(buffer) +sizeof(buffer)
enum { ET_COMMAND = 80, ET_INPUT_BYTES = 0 ET_INPUTS(ET_SIZE_OF) };
static unsigned et_expected_bytes, et_loaded;

static void et_say(const char *text)
{
    while (*text)
        et_uart_write(*text++);
}

static void et_say_number(int64_t value)
{
    char text[21], *digit = text + 20;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    *digit = 0;
    do
        *--digit = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        et_uart_write('-');
    et_say(digit);
}

static void et_say_row(const char *name, int64_t value, const char *rest)
{
    et_say(name);
    et_say_number(value);
    et_say(rest);
}

static void et_timestamp(void) { et_say_row("m-lap-us-", et_microseconds(), "\r\n"); }

/* All codes of all outputs. */
static void et_results(void)
{
    const char *between = "m-results-[";
#define ET_SAY(buffer)                                             \
    for (unsigned i = 0; i < sizeof(buffer) / sizeof(*buffer); i++) { \
        et_say_row(between, (int64_t)(buffer)[i], "");             \
        between = ",";                                             \
    }
    ET_OUTPUTS(ET_SAY)
    et_say("]\r\n");
}

/* Byte `at` of the inputs, one behind the other; nothing when it is behind all. */
static void et_store(unsigned at, uint8_t byte)
{
#define ET_STORE(buffer)                    \
    if (at < sizeof(buffer)) {              \
        ((uint8_t *)(buffer))[at] = byte;   \
        return;                             \
    }                                       \
    at -= (unsigned)sizeof(buffer);
    ET_INPUTS(ET_STORE)
}

/* The whole number that a word is, or -1. */
static int32_t et_number(const char *word)
{
    int32_t value = 0;
    if (!word || !*word)
        return -1;
    for (; *word; word++) {
        if (*word < '0' || *word > '9' || value > 99999999)
            return -1;
        value = 10 * value + (*word - '0');
    }
    return value;
}

static int et_hex(char digit)
{
    const char *const digits = "0123456789abcdef", *const found = strchr(digits, digit | 0x20);
    return digit && found ? (int)(found - digits) : -1;
}

static void et_load(const char *word, const char *count)
{
    if (word && !strcmp(word, "load")) {
        const int32_t bytes = et_number(count);
        et_loaded = 0;
        et_expected_bytes = bytes == ET_INPUT_BYTES ? ET_INPUT_BYTES : 0;
        et_say_row(et_expected_bytes ? "m-[Expecting " : "e-[The inputs have ", ET_INPUT_BYTES, " bytes]\r\n");
        return;
    }
    for (; word && word[0] && word[1] && et_loaded < et_expected_bytes; word += 2) {
        const int high = et_hex(word[0]), low = et_hex(word[1]);
        if (high < 0 || low < 0)
            break;
        et_store(et_loaded++, (uint8_t)(16 * high + low));
    }
    if (!word || *word)
        et_say("e-[Not what was expected: bytes in hexadecimal, after db load]\r\n");
    else if (et_loaded == et_expected_bytes)
        et_say("m-load-done\r\n");
}

static void et_run(const char *count, const char *warm)
{
    const int32_t runs = count ? et_number(count) : 1, warmup = warm ? et_number(warm) : 10;
    int status = 0;
    if (runs < 1 || warmup < 0) {
        et_say("e-[infer N W: N at least 1, W at least 0]\r\n");
        return;
    }
    et_say_row("m-warmup-start-", warmup, "\r\n");
    for (int32_t i = 0; i < warmup; i++)
        status |= et_infer(0);
    et_say("m-warmup-done\r\n");
    et_say_row("m-infer-start-", runs, "\r\n");
    et_timestamp();
    for (int32_t i = 0; i < runs; i++)
        status |= et_infer(0);
    et_timestamp();
    et_say("m-infer-done\r\n");
    if (status)
        et_say_row("e-[NAME_predict returned ", status, "]\r\n");
    else
        et_results();
}

static void et_obey(char *command)
{
    const char *words[3] = {0};
    unsigned count = 0;
    for (char *at = command; *at; at++) { /* not strtok, which wants a heap in some C libraries */
        if (*at == ' ' || *at == '\r' || *at == '\n')
            *at = 0;
        else if (count < 3 && (at == command || !at[-1]))
            words[count++] = at;
    }
    if (!count)
        return;
    if (!strcmp(words[0], "name"))
        et_say("m-name-dut-[edgeticket]\r\n");
    else if (!strcmp(words[0], "profile"))
        et_say("m-profile-[edgeticket]\r\nm-model-[NAME]\r\nm-digest-[" NAME_DIGEST "]\r\n");
    else if (!strcmp(words[0], "timestamp"))
        et_timestamp();
    else if (!strcmp(words[0], "results"))
        et_results();
    else if (!strcmp(words[0], "db"))
        et_load(words[1], words[2]);
    else if (!strcmp(words[0], "infer"))
        et_run(words[1], words[2]);
    else
        et_say("e-[Unknown command]\r\n");
}

int main(void)
{
    static char command[ET_COMMAND + 1];
    unsigned length = 0;
    et_uart_start();
    et_say("m-init-done\r\nm-ready\r\n");
    for (;;) {
        const char byte = et_uart_read();
        if (byte != '%') {
            if (length <= ET_COMMAND)
                command[length++] = byte;
            continue;
        }
        if (length > ET_COMMAND) {
            et_say("e-[Too long a command]\r\n");
        } else {
            command[length] = 0;
            et_obey(command);
        }
        et_say("m-ready\r\n");
        length = 0;
    }
}
