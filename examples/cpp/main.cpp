// An inspection line: raw frames in, one verdict each out, with latencies and missed deadlines. See README.md.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

// NAME is the network's, given by the Makefile: MODEL(_predict) is digits_predict.
#define PASTE_(a, b) a##b
#define PASTE(a, b) PASTE_(a, b)
#define MODEL(word) PASTE(NAME, word)
#define TEXT_(...) #__VA_ARGS__
#define TEXT(...) TEXT_(__VA_ARGS__)
#include TEXT(NAME.h)
#ifdef GUARD
#include TEXT(MODEL(_guard.h))
#endif

namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

template <class Function> struct Signature {
    static_assert(sizeof(Function) == 0, "this program is for a network with one input and one output");
};
template <class In, class Out> struct Signature<int(const In *, Out *)> {
    using Frame = std::array<In, MODEL(_IN)>;
    using Codes = std::array<Out, MODEL(_OUT)>;
};
using Frame = Signature<decltype(MODEL(_predict))>::Frame;
using Codes = Signature<decltype(MODEL(_predict))>::Codes;

// A float sensor's header defines a scale; a macro that is not defined reads as its own name.
static_assert(std::string_view(TEXT(MODEL(_IN_SCALE))) == TEXT(NAME) "_IN_SCALE",
              "a float sensor: convert its values to codes first, as the network's header says");

struct UsageError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Options {
    std::string source;
    std::vector<long> good;
    std::optional<Milliseconds> period;
};

struct Found {
    std::string_view status;
    std::optional<long> label; // none where the guard found a fault
};

long label_of(const std::string &word)
{
    char *end = nullptr;
    const long label = std::strtol(word.c_str(), &end, 10);
    if (word.empty() || *end || label < 0 || label >= MODEL(_OUT))
        throw UsageError("--good " + word + ": give a class of 0 to " + std::to_string(MODEL(_OUT) - 1));
    return label;
}

Milliseconds period_of(const std::string &word)
{
    char *end = nullptr;
    const double period = std::strtod(word.c_str(), &end);
    if (word.empty() || *end || !(period > 0 && period <= 3.6e6))
        throw UsageError("--period-ms " + word + ": give milliseconds above 0, at most 3600000");
    return Milliseconds(period);
}

Options parse(const std::vector<std::string> &words)
{
    Options options;
    for (std::size_t i = 0; i < words.size(); i++) {
        const std::string &word = words[i];
        const bool named = word == "--good" || word == "--period-ms";
        if (named && i + 1 == words.size())
            throw UsageError(word + ": its value is missing");
        if (word == "--good")
            options.good.push_back(label_of(words[++i]));
        else if (word == "--period-ms")
            options.period = period_of(words[++i]);
        else if (word.empty() || (word[0] == '-' && word != "-") || !options.source.empty())
            throw UsageError("\"" + word + "\": no such option, or a second source");
        else
            options.source = word;
    }
    if (options.source.empty() || options.good.empty())
        throw UsageError("a source and at least one --good are needed");
    return options;
}

// False at the end, between two frames.
bool read(std::istream &stream, Frame &frame, std::size_t number)
{
    stream.read(reinterpret_cast<char *>(frame.data()), sizeof frame);
    const auto got = static_cast<std::size_t>(stream.gcount());
    if (stream.bad())
        throw std::runtime_error("frame " + std::to_string(number) + ": the source cannot be read");
    if (got && got < sizeof frame)
        throw std::runtime_error("frame " + std::to_string(number) + ": cut off after " + std::to_string(got) +
                                 " of " + std::to_string(sizeof frame) + " bytes");
    return got != 0;
}

class Judge {
public:
#ifdef GUARD
    Found operator()(const Frame &frame)
    {
        static constexpr std::array<std::string_view, 6> words{"ok", "range", "constant", "stuck", "drift", "unfamiliar"};
        static_assert(MODEL(_GUARD_RANGE) == 1 && MODEL(_GUARD_STUCK) == 3 && MODEL(_GUARD_UNFAMILIAR) == 5);
        const int status = MODEL(_guard)(&state, frame.data());
        const std::string_view word = words.at(static_cast<std::size_t>(status));
        if (status >= MODEL(_GUARD_RANGE) && status <= MODEL(_GUARD_STUCK))
            return {word, std::nullopt};
        const long label = predicted(frame);
        const int drift = MODEL(_guard_drift)(&state, static_cast<int>(label));
        return {drift ? words.at(static_cast<std::size_t>(drift)) : word, label};
    }
#else
    Found operator()(const Frame &frame) { return {"unchecked", predicted(frame)}; }
#endif

private:
#ifdef GUARD
    MODEL(_guard_state) state{};
#endif

    static long predicted(const Frame &frame)
    {
        Codes codes{};
        if (const int refused = MODEL(_predict)(frame.data(), codes.data()))
            throw std::runtime_error(TEXT(MODEL(_predict)) " answered " + std::to_string(refused));
        return std::max_element(codes.begin(), codes.end()) - codes.begin();
    }
};

// What a line of any length can afford to keep: the last frames' latencies.
class Latencies {
public:
    void add(double ms)
    {
        most = std::max(most, ms);
        if (last.size() < 65536)
            last.push_back(ms);
        else
            last[count % last.size()] = ms;
        count++;
    }

    std::string text()
    {
        if (last.empty())
            return "";
        std::sort(last.begin(), last.end());
        std::array<char, 128> line{};
        std::snprintf(line.data(), line.size(), "; p50 %.4f ms, p99 %.4f ms, max %.4f ms", share(0.50), share(0.99), most);
        return line.data();
    }

    std::size_t count = 0;

private:
    // Nearest rank, of sorted values.
    double share(double part) const
    {
        return last[static_cast<std::size_t>(std::ceil(part * static_cast<double>(last.size()))) - 1];
    }

    std::vector<double> last;
    double most = 0;
};

std::string verdict_of(const Found &found, const std::vector<long> &good)
{
    if (!found.label || found.status == "unfamiliar")
        return "check";
    return std::find(good.begin(), good.end(), *found.label) != good.end() ? "pass" : "reject";
}

void write(std::size_t number, const std::string &verdict, const Found &found, double ms, bool late)
{
    std::cout << number << ',' << verdict << ',' << (found.label ? std::to_string(*found.label) : "") << ','
              << found.status << ',' << ms << ',' << (late ? "yes" : "no") << std::endl;
    if (!std::cout)
        throw std::runtime_error("the verdict of frame " + std::to_string(number) + " cannot be written");
}

class Line {
public:
    explicit Line(const Options &given) : options(given) {}

    // With a period, frame i is taken at i periods and is late where it is not judged one period later.
    void judge(const Frame &frame)
    {
        const std::size_t number = latencies.count;
        if (number == 0)
            start = Clock::now(); // waiting for the first frame is no delay of the line
        const Milliseconds due = options.period.value_or(Milliseconds(0)) * static_cast<double>(number);
        std::this_thread::sleep_until(start + std::chrono::duration_cast<Clock::duration>(due));
        const auto before = Clock::now();
        const Found found = network(frame);
        const auto after = Clock::now();
        const bool late = options.period && after - start > due + *options.period;
        const double ms = Milliseconds(after - before).count();
        late_frames += late;
        latencies.add(ms);
        write(number, verdict_of(found, options.good), found, ms, late);
    }

    void summary()
    {
        std::cerr << latencies.count << " frames" << latencies.text();
        if (options.period)
            std::cerr << "; " << late_frames << " late of a period of " << options.period->count() << " ms";
        std::cerr << '\n';
    }

    std::size_t frames() const { return latencies.count; }

private:
    const Options &options;
    Judge network;
    Latencies latencies;
    std::size_t late_frames = 0;
    Clock::time_point start{};
};

void inspect(std::istream &stream, const Options &options)
{
    Line line(options);
    Frame frame;
    std::cout << std::fixed << std::setprecision(4) << "frame,verdict,label,status,ms,late" << std::endl;
    while (read(stream, frame, line.frames()))
        line.judge(frame);
    line.summary();
}

void run(const Options &options)
{
    if (options.source == "-")
        return inspect(std::cin, options);
    std::ifstream file(options.source, std::ios::binary);
    if (!file)
        throw std::runtime_error(options.source + ": cannot be opened");
    inspect(file, options);
}

} // namespace

int main(int count, char **words)
{
    std::ios::sync_with_stdio(false);
    try {
        run(parse({words + 1, words + count}));
    } catch (const UsageError &error) {
        std::cerr << "inspect: " << error.what() << "\nusage: inspect FRAMES|- --good CLASS [--good CLASS] [--period-ms MS]\n";
        return 2;
    } catch (const std::exception &error) {
        std::cerr << "inspect: " << error.what() << '\n';
        return 1;
    }
    return 0;
}
