#include "launcher/tokens/tokenizer_file.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "launcher/tokens/byte_tokenizer.h"
#include "launcher/tokens/gpt2_tokenizer.h"
#include "runtime/errors.h"
#include "runtime/file_sum.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

Gpt2Content ContentOfBytes() {
  Gpt2Content content;
  for (int byte = 0; byte < 256; ++byte) content.vocab[ShownByte(static_cast<uint8_t>(byte))] = byte;
  return content;
}

bool IsOfBytes(const Gpt2Content& content) {
  return content.merges.empty() && content.vocab == ContentOfBytes().vocab;
}

std::string TextOf(const Gpt2Content& content) {
  Json merges = Json::array(), added = Json::array();
  for (const Gpt2Content::Merge& merge : content.merges) merges.push_back(merge.text);
  if (content.vocab.contains(kEndOfText)) {
    added.push_back(Json{{"id", content.vocab[kEndOfText]},
                         {"content", kEndOfText},
                         {"single_word", false},
                         {"lstrip", false},
                         {"rstrip", false},
                         {"normalized", false},
                         {"special", true}});
  }
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  const Json model = {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", nullptr},
                      {"continuing_subword_prefix", ""},
                      {"end_of_word_suffix", ""},
                      {"fuse_unk", false},
                      {"byte_fallback", false},
                      {"vocab", content.vocab},
                      {"merges", merges}};
  const Json json = {{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added},
                     {"normalizer", nullptr},
                     {"pre_tokenizer", byte_level},
                     {"post_processor", byte_level},
                     {"decoder", byte_level},
                     {"model", model}};
  return json.dump(1) + "\n";
}

// Vocabulary and merges alone: what else a file says has no choice.
std::string NameOf(const Gpt2Content& content) {
  std::string text = content.vocab.dump();
  for (const Gpt2Content::Merge& merge : content.merges) text += "\n" + merge.text;
  return Format("gpt2, %d tokens, %s", content.vocab.size(), SumOfText(text).hash.c_str());
}

TokenizerFile Made(const Gpt2Content& content, std::string text) {
  TokenizerFile file;
  if (IsOfBytes(content)) {
    file.name = "bytes";
    file.tokenizer = std::make_shared<ByteTokenizer>();
  } else {
    file.tokenizer = std::make_shared<Gpt2Tokenizer>(content);  // which checks the content
    file.name = NameOf(content);
  }
  file.text = text.empty() ? TextOf(content) : std::move(text);
  file.vocab_size = file.tokenizer->vocab_size();
  return file;
}

// A depth that no tokenizer has would exhaust the stack of those who walk or destroy it.
Json ParseShallow(const std::string& text) {
  bool is_deep = false;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    is_deep |= depth > 64;
    return !is_deep;
  };
  Json json = Json::parse(text, shallow, false);
  return is_deep || json.is_discarded() ? Json() : json;
}

bool IsNothing(const Json& object, const char* key) {
  return !object.contains(key) || object[key].is_null() || object[key] == false || object[key] == "" ||
         object[key] == 0.0;
}

std::string TypeOf(const Json& object, const char* key) {
  if (!object.contains(key) || !object[key].is_object() || !object[key].contains("type")) return "none";
  const Json& type = object[key]["type"];
  return type.is_string() ? type.get<std::string>() : "none";
}

// What in the file is of another tokenizer than GPT-2's, or "".
std::string Difference(const Json& json) {
  if (!json.is_object()) return "no JSON object";
  if (TypeOf(json, "model") != "BPE") return "its model is " + TypeOf(json, "model") + ", not BPE";
  if (TypeOf(json, "pre_tokenizer") != "ByteLevel")
    return "its pre_tokenizer is " + TypeOf(json, "pre_tokenizer") + ", not ByteLevel";
  const Json& model = json["model"];
  for (const char* key :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "ignore_merges"}) {
    if (!IsNothing(model, key)) return std::string("its model has ") + key;
  }
  if (!IsNothing(json, "normalizer")) return "it has a normalizer";
  const Json& split = json["pre_tokenizer"];
  if (!IsNothing(split, "add_prefix_space")) return "it adds a blank before a text (add_prefix_space)";
  if (split.contains("use_regex") && split["use_regex"] != true)
    return "it does not split texts as GPT-2 does (use_regex)";
  if (!model.contains("vocab") || !model["vocab"].is_object() || model["vocab"].empty())
    return "it has no vocabulary";
  if (!model.contains("merges") || !model["merges"].is_array()) return "it has no list of merges";
  if (!json.contains("added_tokens") || !json["added_tokens"].is_array()) return "";
  for (const Json& token : json["added_tokens"]) {
    const bool has_text = token.is_object() && token.contains("content") && token["content"].is_string();
    const std::string content = has_text ? token["content"].get<std::string>() : "";
    if (!has_text || !token.contains("id") || !model["vocab"].contains(content) ||
        model["vocab"][content] != token["id"])
      return "it adds a token \"" + content + "\" that its vocabulary lacks";
  }
  return "";
}

// "a b", or ["a", "b"] as newer files have it.
std::string MergeText(const Json& merge) {
  if (merge.is_string()) return merge.get<std::string>();
  const bool is_pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
  return is_pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>() : "";
}

}  // namespace

std::string TokenizerFileOf(const std::string& dataset_prefix) {
  return dataset_prefix + "." + kTokenizerFile;
}

TokenizerFile TokenizerFileFor(const TokenizerOptions& options) {
  CheckTokenizerOptions(options);
  if (options.kind.ends_with(".json")) return ReadTokenizerFile(options.kind);
  if (options.kind == "bytes") return Made(ContentOfBytes(), "");
  return Made(ReadGpt2Files(options.vocab, options.merges), "");
}

TokenizerFile ReadTokenizerFile(const std::string& path) {
  std::string text = ReadTextFile(path);
  const Json json = ParseShallow(text);
  const std::string difference = Difference(json);
  if (!difference.empty()) {
    throw UserError(
        path +
        ": is no tokenizer that this program knows (byte-level BPE as GPT-2's, or bytes): " + difference);
  }
  Gpt2Content content;
  content.vocab = json["model"]["vocab"];
  content.vocab_name = content.merges_name = path;
  for (const Json& merge : json["model"]["merges"]) {
    content.merges.push_back(
        {.line = static_cast<int64_t>(content.merges.size()) + 1, .text = MergeText(merge)});
  }
  return Made(content, std::move(text));
}

std::optional<TokenizerFile> FindTokenizerFile(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) return std::nullopt;
  return ReadTokenizerFile(path);
}

}  // namespace unipool
