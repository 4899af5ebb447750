/* Statistics of a frame, exact integers; what each means: edgeticket/drift.py. */
enum { ET_KINDS = ET_STATISTICS / ET_CHANNELS };

static void et_statistics(const ET_VALUE *x, int64_t found[ET_STATISTICS])
{
    for (int channel = 0; channel < ET_CHANNELS; channel++, x += ET_VALUES, found += ET_KINDS) {
        ET_SUM sum = 0;
        ET_SQUARES squares = 0;
        ET_STEPS steps = 0;
        uint32_t changes = 0;
        int32_t least = x[0], most = x[0], before = x[0];
        for (uint32_t i = 0; i < ET_VALUES; i++) {
            const int32_t now = x[i], step = now < before ? before - now : now - before;
            sum = (ET_SUM)(sum + now);
            squares = (ET_SQUARES)(squares + (uint32_t)(now * now));
            steps = (ET_STEPS)(steps + (uint32_t)step);
            changes += step != 0;
            if (now < least)
                least = now;
            if (now > most)
                most = now;
            before = now;
        }
        const int64_t all[6] = {(int64_t)sum, (int64_t)squares, (int64_t)steps, changes, least, most};
        memcpy(found, all, ET_KINDS * sizeof all[0]);
    }
}

static int et_fault(NAME_guard_state *state, const int64_t found[ET_STATISTICS])
{
    const int same = !memcmp(state->last, found, sizeof state->last);
    const int32_t first = ET_KINDS == 1 ? 0 : 4, second = ET_KINDS == 1 ? 0 : 5;
    state->times = same ? state->times + (state->times < UINT32_MAX - 1) : 1;
    memcpy(state->last, found, sizeof state->last);
    for (int channel = 0; channel < ET_CHANNELS; channel++)
        if (found[channel * ET_KINDS + first] < et_least[channel] || found[channel * ET_KINDS + second] > et_most[channel])
            return NAME_GUARD_RANGE;
    for (int channel = 0; channel < ET_CHANNELS && ET_KINDS > 1; channel++)
        if (found[channel * ET_KINDS + first] == found[channel * ET_KINDS + second] && !et_flat[channel])
            return NAME_GUARD_CONSTANT;
    return state->times >= ET_STUCK ? NAME_GUARD_STUCK : NAME_GUARD_OK;
}

int NAME_guard(NAME_guard_state *state, const ET_VALUE frame[ET_CHANNELS * ET_VALUES])
{
    int64_t found[ET_STATISTICS];
    et_statistics(frame, found);
    const int fault = et_fault(state, found);
    state->fresh = !fault;
    if (fault)
        return fault;
    for (int i = 0; i < ET_STATISTICS; i++)
        if (found[i] < et_lower[i] || found[i] > et_upper[i])
            return NAME_GUARD_UNFAMILIAR;
    return NAME_GUARD_OK;
}

int NAME_guard_drift(NAME_guard_state *state, int answer)
{
    const int row = answer >= 0 && answer < ET_MEANS ? answer : ET_MEANS - 1;
    const int counts = state->fresh && !state->drifted; /* sums stay small, whatever follows */
    state->fresh = 0;
    for (int i = 0; i < ET_STATISTICS && counts; i++) {
        const int64_t found = state->last[i], at = (int64_t)row * ET_STATISTICS + i;
        const int64_t now = found < et_lower[i] ? et_lower[i] : found > et_upper[i] ? et_upper[i] : found;
        const int64_t up = state->up[i] + (now - et_high[at]), down = state->down[i] + (et_low[at] - now);
        state->up[i] = up > 0 ? up : 0;
        state->down[i] = down > 0 ? down : 0;
        if (up > et_limit[i] || down > et_limit[i])
            state->drifted = 1;
    }
    return state->drifted ? NAME_GUARD_DRIFT : NAME_GUARD_OK;
}
