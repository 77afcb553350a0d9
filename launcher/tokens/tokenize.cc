#include "launcher/tokens/tokenize.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "launcher/commands.h"
#include "launcher/data/indexed_dataset_writer.h"
#include "launcher/text_list.h"
#include "launcher/tokens/tokenize_input.h"
#include "launcher/tokens/tokenize_pipeline.h"
#include "launcher/tokens/tokenize_progress.h"
#include "launcher/tokens/tokenizer_file.h"
#include "runtime/errors.h"
#include "runtime/watchdog.h"
#include "runtime/world.h"

DEFINE_string(input, "",
              "tokenize: files of JSON lines (also .gz, .zst, .bz2, .xz), separated by commas; - is the "
              "standard input; a comma in a name: \\, or quotes");
DEFINE_string(output_prefix, "", "tokenize: writes OUTPUT_PREFIX_KEY_document.bin, .idx, .tokenizer.json");
DEFINE_string(key, "text", "tokenize: JSON key of the text");
DEFINE_bool(append_eod, true, "tokenize: end each document with end-of-text (bytes: there is none)");
DEFINE_bool(skip_bad_lines, false,
            "tokenize: leave wrong lines out, and tell how many and the first of them");
DEFINE_int32(threads, 0, "tokenize: threads; 0: one a core");

namespace unipool {

namespace {

constexpr size_t kChunkBytes = 1 << 20;
constexpr int64_t kTellBadLines = 5;

// The documents of one chunk, ready to be written.
struct TokenizedChunk {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> lengths;  // tokens of each document
  int64_t num_tokens = 0;
  int64_t num_input_bytes = 0;
  int64_t num_bad_lines = 0;
  std::vector<std::string> first_bad_lines;  // with file, line and reason
};

class ChunkTokenizer {
 public:
  ChunkTokenizer(const Tokenizer& tokenizer, const TokenizeOptions& options, bool append_eod)
      : tokenizer_(tokenizer),
        key_(options.key),
        append_eod_(append_eod),
        skip_bad_lines_(options.skip_bad_lines) {}

  TokenType type() const { return TokenTypeFor(tokenizer_.vocab_size()); }

  TokenizedChunk operator()(const LineChunk& chunk) const {
    TokenizedChunk result;
    result.num_input_bytes = static_cast<int64_t>(chunk.text.size());
    std::string text;
    std::vector<int32_t> ids;
    std::string_view rest = chunk.text;
    for (int64_t line = chunk.first_line; !rest.empty(); ++line) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view content = rest.substr(0, end);
      rest.remove_prefix(std::min(end + 1, rest.size()));
      if (content.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      try {
        ExtractText(content, key_, text);
        AddDocument(text, ids, result);
      } catch (const UserError& error) {
        AddBadLine(Format("%s, line %d: %s", chunk.path.c_str(), line, error.what()), result);
      }
    }
    return result;
  }

 private:
  void AddDocument(const std::string& text, std::vector<int32_t>& ids, TokenizedChunk& result) const {
    ids.clear();
    tokenizer_.Encode(text, ids);
    if (!ids.empty() && append_eod_) ids.push_back(tokenizer_.end_of_text());
    if (ids.size() > INT32_MAX)
      throw UserError("has more than 2^31 tokens; an index cannot hold such a document");
    AppendTokens(ids, type(), result.bytes);
    result.lengths.push_back(static_cast<int32_t>(ids.size()));
    result.num_tokens += static_cast<int64_t>(ids.size());
  }

  void AddBadLine(const std::string& problem, TokenizedChunk& result) const {
    if (!skip_bad_lines_)
      throw UserError(problem + "; --skip_bad_lines leaves such lines out and counts them");
    if (++result.num_bad_lines <= kTellBadLines) result.first_bad_lines.push_back(problem);
  }

  const Tokenizer& tokenizer_;
  const std::string key_;
  const bool append_eod_, skip_bad_lines_;
};

void CheckInput(const std::string& path, Problems& problems) {
  std::error_code error;
  if (path == "-") return;
  if (!std::filesystem::exists(path, error)) {
    problems.Add(Format("--input %s: no such file", path.c_str()));
  } else if (std::filesystem::is_directory(path, error)) {
    problems.Add(Format("--input %s: is a folder; name the files in it, separated by commas", path.c_str()));
  }
}

void CheckOptions(const TokenizeOptions& options) {
  Problems problems;
  if (options.input.empty())
    problems.Add("--input is empty; name one or more files of JSON lines, there or behind `tokenize`");
  for (const std::string& path : options.input) CheckInput(path, problems);
  const std::filesystem::path folder = std::filesystem::path(options.output_prefix).parent_path();
  if (options.output_prefix.empty()) {
    problems.Add("--output_prefix is empty; name the dataset to write, for example data/books");
  } else if (!folder.empty() && !std::filesystem::is_directory(folder)) {
    problems.Add(Format("--output_prefix %s: there is no folder %s; make it first",
                        options.output_prefix.c_str(), folder.c_str()));
  }
  if (options.key.empty()) problems.Add("--key is empty; name the JSON key of the text, for example text");
  constexpr int kMostThreads = 1024;
  if (options.threads < 0 || options.threads > kMostThreads) {
    problems.Add(
        Format("--threads=%d: must be from 1 to %d, or 0 for one a core", options.threads, kMostThreads));
  }
  if (options.tokenizer.kind == "bytes" && options.append_eod == true) {
    problems.Add("--append_eod: --tokenizer bytes has no end-of-text token; leave the flag out");
  }
  problems.ThrowIfAny();
}

// Bytes of the texts of all inputs, or 0 where that is not known.
int64_t TotalBytes(const std::vector<std::string>& paths) {
  int64_t total = 0;
  for (const std::string& path : paths) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    if (error || InputFile::IsPacked(path)) return 0;
    total += static_cast<int64_t>(size);
  }
  return total;
}

// What was skipped.
struct BadLines {
  int64_t count = 0;
  std::vector<std::string> first;

  void Add(const TokenizedChunk& chunk) {
    count += chunk.num_bad_lines;
    for (const std::string& line : chunk.first_bad_lines) {
      if (static_cast<int64_t>(first.size()) < kTellBadLines) first.push_back(line);
    }
  }

  std::string Text() const {
    std::string text;
    for (const std::string& line : first) text += "\n  " + line;
    const int64_t others = count - static_cast<int64_t>(first.size());
    if (others > 0) text += Format("\n  and %d more", others);
    return text;
  }
};

}  // namespace

std::string Tokenize(const TokenizeOptions& options) {
  CheckOptions(options);
  const TokenizerFile tokenizer_file = TokenizerFileFor(options.tokenizer);
  const std::shared_ptr<const Tokenizer>& tokenizer = tokenizer_file.tokenizer;
  const bool append_eod = options.append_eod.value_or(tokenizer->end_of_text() >= 0);
  if (append_eod && tokenizer->end_of_text() < 0) {
    throw UserError(
        Format("--vocab %s: has no token <|endoftext|> to end documents with; give --append_eod=false",
               options.tokenizer.vocab.c_str()));
  }
  const ChunkTokenizer chunk_tokenizer(*tokenizer, options, append_eod);
  const std::string prefix = options.output_prefix + "_" + options.key + "_document";
  LineReader reader(options.input, kChunkBytes);
  IndexedDatasetWriter writer(prefix, chunk_tokenizer.type());
  writer.SetTokenizer(tokenizer_file.text);
  TokenizeProgress progress(TotalBytes(options.input));
  BadLines bad;

  OrderedPipeline<LineChunk, TokenizedChunk> pipeline;
  pipeline.next = [&](LineChunk& chunk) { return reader.Next(chunk); };
  pipeline.work = [&](LineChunk& chunk) { return chunk_tokenizer(chunk); };
  pipeline.finish = [&](TokenizedChunk& chunk) {
    writer.Add(chunk.bytes, chunk.lengths);
    bad.Add(chunk);
    progress.Add(chunk.num_input_bytes, static_cast<int64_t>(chunk.lengths.size()), chunk.num_tokens);
  };
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  pipeline.Run(options.threads > 0 ? options.threads : cores);
  if (bad.count > 0 && writer.num_documents() == 0) {
    throw UserError(Format("none of the %d lines is good:%s", bad.count, bad.Text().c_str()));
  }
  writer.Finish();
  progress.Finish();
  if (bad.count > 0) {
    PrintErrorLine(Format("skipped %d bad lines beside %d good ones:%s", bad.count, writer.num_documents(),
                          bad.Text().c_str()));
  }
  return prefix;
}

int TokenizeCommand(const CommandLine& command_line) {
  if (JoinsMpi() && WorldSize({}) > 1) {
    throw UserError(
        "tokenize runs as one process and uses all cores of it (--threads): start it without mpirun");
  }
  TokenizeOptions options;
  std::error_code ignored;
  const bool is_one_file = std::filesystem::is_regular_file(FLAGS_input, ignored);  // it may have a comma
  options.input = is_one_file ? std::vector<std::string>{FLAGS_input} : SplitTextList(FLAGS_input);
  options.input.insert(options.input.end(), command_line.inputs.begin(), command_line.inputs.end());
  options.output_prefix = FLAGS_output_prefix;
  options.key = FLAGS_key;
  options.tokenizer = TokenizerOptionsFromFlags();
  options.skip_bad_lines = FLAGS_skip_bad_lines;
  options.threads = FLAGS_threads;
  if (!gflags::GetCommandLineFlagInfoOrDie("append_eod").is_default) options.append_eod = FLAGS_append_eod;
  std::printf("%s\n", Tokenize(options).c_str());
  return 0;
}

}  // namespace unipool
