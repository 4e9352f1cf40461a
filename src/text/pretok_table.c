/* pretok_table.c - the groups of patterns and the names that files give them.
 *
 * The patterns are those of the models' own tokenizers (their tokenizer.json or tiktoken files):
 * facts about the models.  They are PCRE2 with UTF and UCP; the first alternative that matches
 * wins.  Written differently from the originals, with the same result:
 *  - case-insensitive contractions are spelled out;
 *  - scripts are \p{sc:Han}, because \p{Han} means more since PCRE2 10.40;
 *  - digits in threes from the right (P18, P26, P27) are cut by code: as lookaheads they are
 *    quadratic in the length of the number;
 *  - P9 excludes Han inside its classes and P20 is possessive, so that no group repeats per
 *    character and long runs need no stack;
 *  - P11's trailing spaces and P25's newlines are tried once per run of spaces, not once per space.
 */
#include "text/pretok_priv.h"

/* Parts that many patterns share. */
#define CONTRACTION "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define PUNCT_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
#define CASED_WORD                                                                                 \
    LEAD UPPER "*" LOWER "+" CONTRACTION "?|" LEAD UPPER "+" LOWER "*" CONTRACTION "?"
#define NOT_HAN_UPPER "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define NOT_HAN_LOWER "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define CJK "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"

static const struct sh_pre_group groups[] = {
    {"P1",
     {
         {CONTRACTION "|" LEAD "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P2",
     {
         {CONTRACTION "|" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P3",
     {
         {CONTRACTION "|" LEAD "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P4",
     {
         {CASED_WORD "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES, SH_PRE_MATCHES},
     }},
    {"P5",
     {
         {LEAD UPPER "*" LOWER "+|" LEAD UPPER "+" LOWER
                     "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P6",
     {
         {"\\p{N}{1,3}", SH_PRE_MATCHES},
         {CJK, SH_PRE_MATCHES},
         {PUNCT_WORD
          "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P7",
     {
         {GPT2, SH_PRE_MATCHES},
     }},
    {"P8",
     {
         {"\\p{N}", SH_PRE_MATCHES},
         {GPT2, SH_PRE_MATCHES},
     }},
    {"P9",
     {
         {"\\p{sc:Han}+|" LEAD NOT_HAN_UPPER "*" NOT_HAN_LOWER "+" CONTRACTION
          "?|" LEAD NOT_HAN_UPPER "+" NOT_HAN_LOWER "*" CONTRACTION
          "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P10",
     {
         {"[^\\n]+|[\\n]+", SH_PRE_MATCHES},
     }},
    {"P11",
     {
         {"[\\r\\n]", SH_PRE_MATCHES},
         {"\\s?[A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}"
          "\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}"
          "\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}"
          "\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}"
          "\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}"
          "\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}"
          "\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"
          "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"
          "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"
          "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}"
          "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"
          "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"
          "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"
          "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"
          "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}"
          "\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}"
          "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}"
          "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"
          "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}"
          "\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}"
          "\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"
          "\\x{1E900}-\\x{1E943}]+",
          SH_PRE_MATCHES},
         {"\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}"
          "\\x{3000}-\\x{3002}]+",
          SH_PRE_MATCHES},
         {"(?<!\\s)\\s++$", SH_PRE_MATCHES},
         {"[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", SH_PRE_MATCHES},
         {"\\p{N}+", SH_PRE_MATCHES},
     }},
    {"P12",
     {
         {"[\\r\\n]", SH_PRE_MATCHES},
         {"\\s?\\p{L}+", SH_PRE_MATCHES},
         {"\\s?\\p{P}+", SH_PRE_MATCHES},
         {"[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", SH_PRE_MATCHES},
         {"\\p{N}", SH_PRE_MATCHES},
     }},
    {"P13",
     {
         {"[\\p{P}\\$\\+<=>\\^~\\|`]+", SH_PRE_MATCHES},
         {GPT2, SH_PRE_MATCHES},
         {"[0-9][0-9][0-9]", SH_PRE_MATCHES},
     }},
    {"P14",
     {
         {"[\\p{P}\\$\\+<=>\\^~\\|]+", SH_PRE_MATCHES},
         {GPT2, SH_PRE_MATCHES},
         {"\\p{N}+", SH_PRE_MATCHES},
         {"[0-9][0-9][0-9]", SH_PRE_MATCHES},
     }},
    {"P15",
     {
         {" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+",
          SH_PRE_MATCHES},
     }},
    {"P16",
     {
         {" ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+",
          SH_PRE_MATCHES},
         {"\\p{N}", SH_PRE_MATCHES},
     }},
    {"P17",
     {
         {"[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}"
          "\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}"
          "\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|["
          "\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
          SH_PRE_MATCHES},
         {CASED_WORD "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES, SH_PRE_MATCHES},
     }},
    {"P18",
     {
         {"\\d++(\\b)?", SH_PRE_THREES_IF_1},
         {CASED_WORD "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES, SH_PRE_MATCHES},
     }},
    {"P19",
     {
         {CASED_WORD "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES, SH_PRE_MATCHES},
     }},
    {"P20",
     {
         {CONTRACTION
          "|" LEAD
          "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?"
          "|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
          SH_PRE_MATCHES},
     }},
    {"P21",
     {
         {CONTRACTION "|" LEAD "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P22",
     {
         {LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES, SH_PRE_MATCHES},
     }},
    {"P23",
     {
         {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" LEAD
          "+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
          SH_PRE_MATCHES},
     }},
    {"P24",
     {
         {"\\p{N}{1,3}", SH_PRE_MATCHES},
         {CONTRACTION "|" LEAD "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P25",
     {
         {CONTRACTION
          "|" LEAD
          "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|(?<![^\\S\\r\\n])\\s*[\\r\\n]+|\\"
          "s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{"
          "16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
          SH_PRE_MATCHES},
     }},
    {"P26",
     {
         {"\\p{N}+", SH_PRE_MATCHES},
         {"\\d++", SH_PRE_CUT_THREES},
     }},
    {"P27",
     {
         {"\\p{N}+", SH_PRE_THREES},
         {"[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}"
          "\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{FF9F}"
          "\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}"
          "\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}"
          "\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+",
          SH_PRE_MATCHES},
         {PUNCT_WORD
          "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P28",
     {
         {"[^\\n]+|[\\n]+", SH_PRE_MATCHES},
         {CONTRACTION "|" LEAD "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES,
          SH_PRE_MATCHES},
     }},
    {"P29",
     {
         {"\\p{N}{1,3}", SH_PRE_MATCHES},
         {CJK, SH_PRE_MATCHES},
         {PUNCT_WORD "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                     "?[\\p{P}\\p{S}]+|[\\r\\n]|\\s+(?!\\S)|\\s+",
          SH_PRE_MATCHES},
         {"\\p{N}", SH_PRE_MATCHES},
     }},
    {"P30",
     {
         {"<sentinel:[0-9]+>", SH_PRE_MATCHES},
         {"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", SH_PRE_MATCHES},
         {"([\\t\\n]|    |  )", SH_PRE_MATCHES},
         {"\\p{N}", SH_PRE_MATCHES},
         {"[\\p{P}!-/:-@\\[-`{-~]", SH_PRE_MATCHES},
         {GPT2, SH_PRE_MATCHES},
     }},
    {"P31",
     {
         {"\\S+", SH_PRE_MATCHES},
     }},
};

/* name, number of its group, flags */
static const struct sh_pre_row rows[] = {
    {"llama3", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"llama-v3", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"llama-bpe", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"falcon3", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"falcon-h1", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"pixtral", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"midm-2.0", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"lfm2", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"jina-v5-nano", 1, SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"dbrx", 1, 0},
    {"smaug-bpe", 1, 0},
    {"chatglm-bpe", 1, SH_PRE_NO_BOS_ID},
    {"glm4", 1, SH_PRE_NO_BOS_ID | SH_PRE_IGNORE_MERGES},
    {"glm5", 1, SH_PRE_NO_BOS_ID | SH_PRE_IGNORE_MERGES},
    {"qwen2", 2, SH_PRE_NO_CLEAN_UP},
    {"deepseek-r1-qwen", 2, SH_PRE_NO_CLEAN_UP},
    {"kormo", 2, SH_PRE_NO_CLEAN_UP},
    {"f2llmv2", 2, SH_PRE_NO_CLEAN_UP},
    {"hunyuan", 2, SH_PRE_NO_CLEAN_UP},
    {"grok-2", 2, SH_PRE_NO_CLEAN_UP},
    {"solar-open", 2, SH_PRE_NO_CLEAN_UP},
    {"stablelm2", 2, 0},
    {"megrez", 2, 0},
    {"qwen35", 3, SH_PRE_NO_CLEAN_UP},
    {"gpt-4o", 4, SH_PRE_NO_CLEAN_UP},
    {"llama4", 4, SH_PRE_NO_CLEAN_UP},
    {"kanana2", 4, SH_PRE_NO_CLEAN_UP},
    {"talkie", 4, SH_PRE_NO_CLEAN_UP},
    {"minimax-m2", 4, SH_PRE_NO_CLEAN_UP},
    {"tekken", 5, SH_PRE_NO_CLEAN_UP | SH_PRE_IGNORE_MERGES | SH_PRE_ADD_BOS},
    {"deepseek-v3", 6, SH_PRE_NO_CLEAN_UP},
    {"hunyuan-dense", 6, SH_PRE_NO_CLEAN_UP},
    {"hy_v4", 6, SH_PRE_NO_CLEAN_UP},
    {"joyai-llm", 6, SH_PRE_NO_CLEAN_UP},
    {"mpt", 7, 0},
    {"gpt-2", 7, 0},
    {"phi-2", 7, 0},
    {"jina-es", 7, 0},
    {"jina-de", 7, 0},
    {"gigachat", 7, 0},
    {"jina-v2-es", 7, 0},
    {"jina-v2-de", 7, 0},
    {"a.x-4.0", 7, 0},
    {"mellum", 7, 0},
    {"modern-bert", 7, 0},
    {"olmo", 7, 0},
    {"jais", 7, 0},
    {"exaone4", 7, 0},
    {"jina-v1-en", 7, SH_PRE_ADD_SEP},
    {"jina-v2-code", 7, SH_PRE_ADD_SEP},
    {"roberta-bpe", 7, SH_PRE_ADD_SEP},
    {"trillion", 7, SH_PRE_NO_CLEAN_UP},
    {"granite-docling", 7, SH_PRE_NO_CLEAN_UP},
    {"starcoder", 8, 0},
    {"refact", 8, 0},
    {"codeshell", 8, 0},
    {"exaone", 8, 0},
    {"minerva-7b", 8, 0},
    {"mellum2", 8, 0},
    {"command-r", 8, SH_PRE_NO_CLEAN_UP},
    {"smollm", 8, SH_PRE_NO_CLEAN_UP},
    {"kimi-k2", 9, SH_PRE_NO_CLEAN_UP},
    {"gemma4", 10, SH_PRE_RAW | SH_PRE_ESCAPE_SPACES | SH_PRE_WHOLE_NEWLINES},
    {"granite-embed-multi-311m", 10, SH_PRE_RAW | SH_PRE_ESCAPE_SPACES | SH_PRE_WHOLE_NEWLINES},
    {"sarvam-moe", 10, SH_PRE_RAW | SH_PRE_ESCAPE_SPACES | SH_PRE_NO_CLEAN_UP},
    {"deepseek-llm", 11, SH_PRE_NO_CLEAN_UP},
    {"deepseek-coder", 12, SH_PRE_NO_CLEAN_UP},
    {"falcon", 13, 0},
    {"default", 14, 0},
    {"poro-chat", 15, SH_PRE_NO_CLEAN_UP},
    {"bloom", 15, 0},
    {"gpt3-finnish", 15, 0},
    {"viking", 16, SH_PRE_NO_CLEAN_UP},
    {"youtu", 17, SH_PRE_NO_CLEAN_UP | SH_PRE_IGNORE_MERGES},
    {"tiny_aya", 18, SH_PRE_NO_CLEAN_UP},
    {"cohere2moe", 18, SH_PRE_NO_CLEAN_UP},
    {"granite-embed-multi-97m", 19, SH_PRE_NO_CLEAN_UP | SH_PRE_IGNORE_MERGES},
    {"exaone-moe", 20, 0},
    {"seed-coder", 21, SH_PRE_NO_CLEAN_UP},
    {"ufakzeka", 22, SH_PRE_NO_CLEAN_UP},
    {"bailingmoe", 23, SH_PRE_NO_CLEAN_UP},
    {"bailingmoe2", 23, SH_PRE_NO_CLEAN_UP},
    {"llada-moe", 23, SH_PRE_NO_CLEAN_UP},
    {"minicpm5", 24, SH_PRE_IGNORE_MERGES},
    {"jais-2", 25, 0},
    {"superbpe", 26, SH_PRE_NO_CLEAN_UP},
    {"afmoe", 27, SH_PRE_NO_CLEAN_UP},
    {"laguna", 28, SH_PRE_NO_CLEAN_UP},
    {"spark2_5", 29, SH_PRE_NO_CLEAN_UP},
    {"chameleon", 30, SH_PRE_ADD_BOS | SH_PRE_NO_CLEAN_UP},
    {"whitespace", 31, SH_PRE_RAW | SH_PRE_DROP_GAPS},
};

const struct sh_pre_group *sh_pre_group_of(const struct sh_pre_row *row)
{
    return &groups[row->group - 1];
}

const struct sh_pre_row *sh_pre_rows(size_t *n)
{
    *n = sizeof rows / sizeof rows[0];
    return rows;
}

const struct sh_pre_row *sh_pre_find(struct sh_str name)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (sh_str_is(name, rows[i].name)) return &rows[i];
    return NULL;
}
