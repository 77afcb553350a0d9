#include "launcher/data/token_source.h"

#include <filesystem>

#include "launcher/data/indexed_dataset.h"
#include "launcher/data/text_dataset.h"
#include "runtime/errors.h"

namespace unipool {

namespace {

std::string WithoutSuffix(const std::string& path) {
  return path.ends_with(".bin") || path.ends_with(".idx") ? path.substr(0, path.size() - 4) : path;
}

bool IsFile(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(path, ignored);
}

bool IsIndexed(const std::string& path) {
  const std::string prefix = WithoutSuffix(path);
  return IsFile(prefix + ".idx") || (IsFile(prefix + ".bin") && !(IsFile(path) && prefix == path));
}

void RefusePackedText(const std::string& path) {
  for (const char* suffix : {".xz", ".gz", ".zst", ".bz2"}) {
    if (!path.ends_with(suffix)) continue;
    throw UserError(
        Format("%s: is compressed; unpack it first (%s), or make a dataset of it: `unipool tokenize` reads "
               "compressed JSON lines",
               path.c_str(),
               path.ends_with(".xz") ? "xz -dk FILE" : "for example with gzip, zstd or bzip2 -dk FILE"));
  }
}

}  // namespace

bool TokenSourceExists(const std::string& path) {
  return IsIndexed(path) || IsFile(path);
}

std::vector<std::string> FilesOfTokenSource(const std::string& path) {
  if (!IsIndexed(path)) return {path};
  const std::string prefix = WithoutSuffix(path);
  return {prefix + ".idx", prefix + ".bin"};
}

std::unique_ptr<TokenSource> OpenTokenSource(const std::string& path) {
  if (IsIndexed(path)) return std::make_unique<IndexedDataset>(WithoutSuffix(path));
  if (IsFile(path)) {
    RefusePackedText(path);
    return std::make_unique<TextDataset>(path);
  }
  const std::string tokenized = WithoutSuffix(path) + "_text_document";
  const std::string hint = IsIndexed(tokenized) ? Format("; did you mean %s?", tokenized.c_str()) : "";
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  const bool is_there = std::filesystem::exists(status);
  const char* what = std::filesystem::is_directory(status) ? "is a folder" : "is no regular file";
  throw UserError(Format("data source %s: %s, and there is no dataset %s.idx%s", path.c_str(),
                         is_there ? what : "no such file", WithoutSuffix(path).c_str(), hint.c_str()));
}

std::string OutsideVocabulary(const std::string& file, int64_t position, int64_t id, int64_t vocab,
                              int64_t all_ids) {
  const std::string remedy =
      all_ids > 0
          ? Format("set model.vocab=%d", all_ids)
          : Format("raise model.vocab to that of the tokenizer that made the file, %d or more", id + 1);
  return Format("%s: token %d is id %d, but model.vocab = %d has only ids 0 to %d; %s", file.c_str(),
                position, id, vocab, vocab - 1, remedy.c_str());
}

}  // namespace unipool
