/* A product's main loop: the model from one of two slots, or the one that is built in; golden vectors at every start; a watchdog;
   updates over the serial line. `model` is what `edgeticket export --to c -o model` wrote.
     U, 4 bytes of length, the bytes of NAME.update    P, a frame's bytes    R: reset */
#include "board.h"
#include "model.h"
#include "reference.h"
#include "slots.h"

static et_slots slots;
et_slots_model running;
static const et_slots_config config = {
    .slot = {(const uint8_t *)FLASH, (const uint8_t *)FLASH + SECTOR * SECTORS},
    .sector = SECTOR,
    .sectors = SECTORS,
    .unit = UNIT,
    .erase = flash_erase,
    .program = flash_program,
    .verify = verify,
    .target_class = "line-camera-v2",
    .firmware = model_PLAN_DIGEST,
    .sequence = 1, /* of the model built in */
    .jump = 1000,
    .trials = 3,
};

static void answer(const char *name, int value)
{
    board_number(name, (uint32_t)value);
    board_write("\n");
}

static int label(const reference_raw *frame)
{
    uint8_t codes[model_OUT];
    int best = 0;
    if (model_predict(frame, codes))
        return -1;
    for (int i = 1; i < model_OUT; i++)
        best = codes[i] > codes[best] ? i : best;
    return best;
}

/* Frames that every good model answers alike. */
static int golden_wrong(void)
{
    int wrong = 0;
    for (unsigned i = 0; i < REFERENCES; i++) {
        wrong += label(reference[i]) != reference_label[i];
        board_feed();
    }
    return wrong;
}

static void start_model(void)
{
    const int status = et_slots_boot(&slots, &config, &running);
    const int refused = running.slot < 0 ? 0 : model_load(running.packet, running.size);
    const int wrong = golden_wrong(); /* a model that hangs here is stopped by the watchdog, and its trial was counted */
    board_number("boot ", (uint32_t)status);
    board_number(" sequence ", running.slot < 0 ? config.sequence : running.sequence);
    board_write(running.slot < 0 ? " built-in" : running.trial ? " trial" : " kept");
    board_number(" refused ", (uint32_t)refused);
    answer(" wrong ", wrong);
    if (!running.trial)
        return; /* wrong here: stop the line, not only the model */
    if (!refused && !wrong) {
        answer("confirm ", et_slots_confirm(&slots));
    } else {
        answer("reject ", et_slots_reject(&slots));
        board_reset();
    }
}

/* Whether that many bytes came; the sender may be gone at any moment. */
static int receive(void *to, uint32_t count)
{
    for (uint8_t *at = to; count; count--) {
        const int byte = board_read();
        if (byte < 0)
            return 0;
        *at++ = (uint8_t)byte;
    }
    return 1;
}

static void update(void)
{
    uint8_t length[4] = {0}, byte;
    uint32_t total = 0, i = 0;
    (void)receive(length, 4);
    for (; i < 4; i++)
        total |= (uint32_t)length[i] << 8 * i;
    int status = et_slots_begin(&slots, total);
    for (i = 0; i < total && receive(&byte, 1); i++) /* of a refused one too: its bytes are no commands */
        status = status ? status : et_slots_write(&slots, &byte, 1);
    answer("update ", status ? status : et_slots_finish(&slots));
}

static void predict(void)
{
    static reference_raw frame[model_IN];
    if (receive(frame, sizeof frame))
        answer("label ", label(frame));
    else
        board_write("frame cut off\n");
}

int main(void)
{
    board_start();
    start_model();
    for (;;) {
        switch (board_read()) {
        case 'U': update(); break;
        case 'P': predict(); break;
        case 'R': board_reset();
        }
    }
}
