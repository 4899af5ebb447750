/* Of an operation without an activation. */
static const et_activation et_none = {ET_CLAMP, 0, 0};
