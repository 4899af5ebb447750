/* Ed25519, by Monocypher 4 (https://monocypher.org): put its monocypher.[ch] and monocypher-ed25519.[ch] beside this file.
   Any other library does: 0 for a good signature, else not. */
#include "board.h"
#include "key.h" /* #define KEY {...}: README.md */
#include "monocypher-ed25519.h"

static const uint8_t key[32] = KEY;

int verify(const uint8_t signature[64], const uint8_t *message, size_t size)
{
    return crypto_ed25519_check(signature, key, message, size);
}
