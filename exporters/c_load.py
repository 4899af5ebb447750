"""The C that takes a model as data: what the firmware knows of it, for exporters/c/load.h, and the calls of the user."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from edgeticket.wire import Wire
from edgeticket.wire_plan import SEED, Firmware, Section
from exporters.c_text import array

CODINGS = ("ET_INT8", "ET_SEED", "ET_SIGNS", "ET_STORED", "ET_NO_WEIGHTS")
GUARD = ["#ifdef ET_UPDATABLE", "  if (!model) return 1;", "#endif"]
DECLARED = """
/* A model as data. Compiled with -DNAME_UPDATABLE, the model in NAME.c may be replaced; with -DNAME_NO_MODEL there is none, and
   NAME_predict returns 1 until one is loaded. NAME_load checks all of a packet (of `edgeticket pack`) where it lies, and the
   network reads it there: it stays, unchanged, as long as it is in use. Do not load while NAME_predict runs. 0: done; else the
   model that was in use still is:
   1: not a packet, or cut short   2: its checksum is wrong   3: made for another firmware   4: malformed
   NAME_patch makes a packet at `out` of another one and the difference (of `edgeticket pack --against`); then load it. It may
   leave `out` half made: never in the place of what is in use. 0: done; 1 to 4 as above (2: of the result, 3: another base);
   5: `room` bytes are too few. */
#if defined(NAME_UPDATABLE) || defined(NAME_NO_MODEL)
int NAME_load(const uint8_t *packet, uint32_t size);
int NAME_patch(const uint8_t *base, uint32_t base_size, const uint8_t *delta, uint32_t size, uint8_t *out, uint32_t room);
#endif
#define NAME_PLAN_DIGEST DIGEST_BYTES /* bytes 16 to 23 of every packet for this firmware */
"""
DEFINED = """int NAME_load(const uint8_t *packet, uint32_t size) {
  static const uint8_t firmware[8] = NAME_PLAN_DIGEST;
  const int wrong = et_wrong_packet(packet, size, firmware, et_sections, sizeof et_sections / sizeof *et_sections);
  if (!wrong) et_model_used = packet;
  return wrong;
}
int NAME_patch(const uint8_t *base, uint32_t base_size, const uint8_t *delta, uint32_t size, uint8_t *out, uint32_t room) {
  return et_patch(base, base_size, delta, size, out, room);
}"""
EXAMPLE = """#if (defined(NAME_UPDATABLE) || defined(NAME_NO_MODEL)) && !defined(NAME_SIZE_ONLY)
static const uint8_t et_packet[] = BYTES;
#endif
"""


def declaration(name: str, device: Firmware) -> str:
    """For the header."""
    digest = ", ".join(f"0x{byte:02X}" for byte in device.digest)
    return DECLARED.replace("DIGEST_BYTES", f"{{{digest}}}").replace("NAME", name)


def example(name: str, packet: bytes) -> str:
    """For the self-test: the model as a packet."""
    return EXAMPLE.replace("NAME", name).replace("BYTES", array(list(packet)))


def fixed(name: str, packet: bytes) -> list[str]:
    """Of a network that can't be updated."""
    return [
        f'#if defined({name}_UPDATABLE) || defined({name}_NO_MODEL)\n#error "lists of one model are in the code: export it with --form seed or signs"\n#endif',
        f"static const uint8_t et_model_used[{len(packet)}] = {array(list(packet))};",
    ]


@dataclass(frozen=True)
class Load:
    name: str
    wire: Wire

    def model(self) -> Iterator[str]:
        """The model that is built in, which one is in use, and what a reader of any other needs beyond what this one does."""
        name, packet = self.name, self.wire.packet
        needs = {"ANY", "RICE", *(["IDS"] if SEED in self.wire.codings.values() else [])} - self.wire.features
        yield f"#if defined({name}_UPDATABLE) || defined({name}_NO_MODEL)\n#define ET_UPDATABLE"
        yield from (f"#define ET_NEEDS_{word}" for word in sorted(needs))
        yield f"#endif\n#ifdef {name}_NO_MODEL\nstatic const uint8_t *et_model_used;\n#else"
        yield f"static const uint8_t et_model[{len(packet)}] = {array(list(packet))};"
        yield "#ifdef ET_UPDATABLE\nstatic const uint8_t *et_model_used = et_model;"
        yield "#else\n#define et_model_used et_model\n#endif\n#endif"

    def definition(self, fragments: Collection[str], load: str) -> Iterator[str]:
        """`load`: the text of load.h; `fragments`: what the file has before it."""
        device = self.wire.firmware
        yield "#ifdef ET_UPDATABLE"
        yield from (f"#define ET_HAS_{word.upper()}" for word in ("filters", "masks") if f"{word}.h" in fragments)
        yield "enum { ET_NO_WEIGHTS = 255 };"
        yield load
        for i, sensor in enumerate(device.sensors):
            fields = f"{sensor.at}, {sensor.channels}, {sensor.low}, {sensor.high}"
            yield f"static const et_sensor et_sensor_{i} = {{{fields}}};"
        for i, section in enumerate(device.sections):
            if _reads_sensors(section):
                read = ", ".join("0" if number is None else f"&et_sensor_{number}" for number in section.sensors)
                yield f"static const et_sensor *const et_read_{i}[] = {{{read}}};"
        yield "static const et_section et_sections[] = {"
        yield from (f"  {{{_fields(i, section)}}}," for i, section in enumerate(device.sections))
        yield "};"
        yield DEFINED.replace("NAME", self.name)
        yield "#endif"


def _reads_sensors(section: Section) -> bool:
    return any(number is not None for number in section.sensors)


def _fields(index: int, section: Section) -> str:
    numbers = section.raw, section.sums, section.rows, section.inputs, section.taps, section.layer, section.head
    read = f"et_read_{index}" if _reads_sensors(section) else "0"
    return f"{', '.join(map(str, numbers))}, {section.form}, {CODINGS[section.coding]}, {section.edges}, {read}"
