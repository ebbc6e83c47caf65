"""The strings of the tokenizer parity tests: string number i is a function of i alone. tests/unit/text/parity_strings.cc makes the same ones."""

MASK = (1 << 64) - 1


class Random:
    """splitmix64"""

    def __init__(self, seed):
        self.state = seed

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def below(self, count):
        return self.bits() % count

    def pick(self, items):
        return items[self.below(len(items))]


# First and last character of stretches of letters that are assigned in every Unicode version of use here.
SCRIPTS = [(0x61, 0x7A), (0x41, 0x5A), (0xC0, 0xD6), (0xE0, 0xF6), (0x100, 0x17F), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA),
           (0x627, 0x63A), (0x905, 0x939), (0x93E, 0x94D), (0xE01, 0xE30), (0x10D0, 0x10F0), (0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2),
           (0x1E00, 0x1EF9), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xF900, 0xFA0D), (0x1D400, 0x1D454), (0x20000, 0x2A6D6)]
DIGITS = [(0x30, 0x39), (0x660, 0x669), (0x966, 0x96F), (0xB2, 0xB3), (0xBC, 0xBE), (0x2160, 0x2188), (0x2460, 0x2473), (0xFF10, 0xFF19), (0x1D7CE, 0x1D7FF)]
MARKS = [(0x300, 0x345), (0x591, 0x5BD), (0x64B, 0x652), (0x20D0, 0x20DC), (0x302A, 0x302F), (0xFE20, 0xFE23), (0x1D165, 0x1D169)]
SYMBOLS = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027), (0x20A0, 0x20AC), (0x2190, 0x21FF), (0x2200, 0x22FF),
           (0x2500, 0x257F), (0x3001, 0x3003), (0x1F300, 0x1F320)]
CONTROLS = [(0x00, 0x1F), (0x7F, 0x9F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2064), (0xFEFF, 0xFEFF), (0xFFFD, 0xFFFD), (0xE000, 0xE010), (0x180E, 0x180E)]
SPACES = [" ", "  ", "   ", "    ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r\n\r\n", "\r", " \n", "\n ", " \t", "\u00a0", "\u3000", "\u2003", "\u2028", "\u0085", "\x0b", "\x0c"]
WORDS = ["the", "The", "of", "and", "to", "in", "is", "What", "answer", "number", "step", "therefore", "HTTPServer", "camelCase", "snake_case", "don't", "I'll", "WE'RE", "it's",
         "they've", "he'd", "I'm", "'s", "'Tis", "O'Brien", "l'été", "naïve", "Straße", "1st", "x2", "3.14159", "1,000,000", "0x7fff", "1e-5", "$5", "50%", "a+b=c", "\u2019s", "'\u017f", "K\u212a"]
CODE = ["def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\tsum += a[i];\n}\n", "#include <vector>\r\n", "SELECT * FROM t WHERE id != 3;", "<div class=\"a\">&nbsp;</div>",
        "{\"key\": [1, 2, null], \"b\": true}", "if x == 'y':\n        pass", "\\frac{1}{2} + \\sqrt{x^2}", "// TODO\n\n\n", "let s = `a${b}`;", "https://example.org/a/b?c=d&e=%20f#g", "$ ls -la | grep \"x\" > /dev/null 2>&1"]
EMOJI = ["\U0001F600", "\U0001F44D\U0001F3FD", "\U0001F468\u200D\U0001F469\u200D\U0001F467\u200D\U0001F466", "\U0001F3F3\uFE0F\u200D\U0001F308", "\U0001F1E9\U0001F1EA", "\u2764\uFE0F", "1\uFE0F\u20E3", "\u263A",
         "\U0001F9D1\U0001F3FF\u200D\U0001F680", "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\n", "<|im_end|>\n", "<|im_", "<|endoftext", "|>", "<repo_name>", "<file_sep>", "<think>", "</think>",
           "<tool_call>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<<|im_end|>>", "<|im_end|><|im_end|>", " <|im_end|> "]


def characters(random, ranges, most):
    first, last = random.pick(ranges)
    return "".join(chr(first + random.below(last - first + 1)) for _ in range(1 + random.below(most)))


def fragment(random):
    kind = random.below(16)
    if kind <= 2:
        return random.pick(WORDS)
    if kind == 3:
        return " " + random.pick(WORDS)
    if kind == 4:
        return random.pick(CODE)
    if kind <= 6:
        return characters(random, SCRIPTS, 8)
    if kind == 7:
        return " " + characters(random, SCRIPTS, 12)
    if kind == 8:
        return characters(random, DIGITS, 9)
    if kind == 9:
        return random.pick(EMOJI)
    if kind == 10:
        return characters(random, SCRIPTS, 2) + characters(random, MARKS, 3)
    if kind == 11:
        return characters(random, SYMBOLS, 5)
    if kind == 12:
        return random.pick(SPECIAL)
    if kind == 13:
        return characters(random, CONTROLS, 3)
    return "".join(random.pick(SPACES) for _ in range(1 + random.below(4)))


def string(index):
    random = Random(index)
    if index % 500 == 499:  # a very long word, or a very long run of white space
        return (" " if index % 1000 == 999 else "") + characters(random, SCRIPTS[:4] if index % 1000 == 499 else [(0x20, 0x20)], 5000)
    return "".join(fragment(random) for _ in range(1 + random.below(14)))
