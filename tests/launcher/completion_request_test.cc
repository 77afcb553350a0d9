#include "launcher/serve/completion_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace unipool {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const CompletionLimits kLimits{.seq_length = 12, .vocab = 256, .prompts = 3, .logprobs = 5};

CompletionRequest Parse(const std::string& body) {
  return ParseCompletionRequest(body, kLimits, *MakeTokenizer({.kind = "bytes"}));
}

std::string Refused(const std::string& body) {
  try {
    Parse(body);
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status(), 400) << body;
    return error.what();
  }
  ADD_FAILURE() << "was taken: " << body.substr(0, 200);
  return "";
}

TEST(CompletionRequest, PromptsInFourForms) {
  const std::vector<int32_t> ab{'a', 'b'}, c{'c'};
  EXPECT_THAT(Parse(R"({"prompt": "ab", "max_tokens": 1})").prompts, ElementsAre(ab));
  EXPECT_THAT(Parse(R"({"prompt": ["ab", "c"], "max_tokens": 1})").prompts, ElementsAre(ab, c));
  EXPECT_THAT(Parse(R"({"prompt": [97, 98], "max_tokens": 1})").prompts, ElementsAre(ab));
  EXPECT_THAT(Parse(R"({"prompt": [[97, 98], [99]], "max_tokens": 1})").prompts, ElementsAre(ab, c));
  EXPECT_THAT(Parse(R"({"prompt": "", "max_tokens": 1})").prompts, ElementsAre(std::vector<int32_t>{'\n'}));
}

TEST(CompletionRequest, Fields) {
  const CompletionRequest plain = Parse(R"({"prompt": "a", "model": "any", "max_tokens": 5})");
  EXPECT_EQ(plain.temperature, 1);
  EXPECT_FALSE(plain.echo);
  EXPECT_FALSE(plain.logprobs);
  const CompletionRequest request = Parse(
      R"({"prompt": "a", "max_tokens": 0, "temperature": 0, "top_p": 0.5, "top_k": 3, "seed": -1, "logprobs": 5,
          "echo": true, "stop": ["x", "yz"], "stream": false, "n": 1, "suffix": null, "user": "me",
          "logit_bias": {}, "presence_penalty": 0.0})");
  EXPECT_EQ(request.max_tokens, 0);
  EXPECT_EQ(request.temperature, 0);
  EXPECT_EQ(request.top_p, 0.5);
  EXPECT_EQ(request.top_k, 3);
  EXPECT_EQ(request.seed, ~uint64_t{0});
  EXPECT_EQ(request.logprobs, 5);
  EXPECT_TRUE(request.echo);
  EXPECT_THAT(request.stops, ElementsAre("x", "yz"));
}

TEST(CompletionRequest, RefusesWhatIsNotSupported) {
  for (const char* field : {R"("stream": true)", R"("n": 2)", R"("best_of": 3)", R"("suffix": "x")",
                            R"("logit_bias": {"5": 1})", R"("frequency_penalty": 0.5)"}) {
    EXPECT_THAT(Refused(std::string(R"({"prompt": "a", "max_tokens": 1, )") + field + "}"),
                HasSubstr("is not supported"));
  }
  EXPECT_THAT(Refused(R"({"prompt": "a", "guided": 1})"), "there is no field guided");
}

TEST(CompletionRequest, RefusesWhatCannotBe) {
  EXPECT_EQ(Refused(""), "the body is not JSON");
  EXPECT_EQ(Refused("{\"prompt\": \"\xff\"}"), "the body is not JSON");
  EXPECT_EQ(Refused("[]"), "the body is no JSON object");
  EXPECT_EQ(Refused("{}"), "there is no prompt");
  EXPECT_EQ(Refused(std::string(100'000, '[')), "the body is nested too deep");
  EXPECT_THAT(Refused(R"({"prompt": {}})"), HasSubstr("prompt must be"));
  EXPECT_THAT(Refused(R"({"prompt": []})"), HasSubstr("prompt must be"));
  EXPECT_THAT(Refused(R"({"prompt": null})"), HasSubstr("prompt must be"));
  EXPECT_THAT(Refused(R"({"prompt": ["a", [1]]})"), HasSubstr("alone"));
  EXPECT_THAT(Refused(R"({"prompt": ["a", "a", "a", "a"]})"), HasSubstr("at most 3"));
  EXPECT_THAT(Refused(R"({"prompt": [256]})"), HasSubstr("at most 255"));
  EXPECT_THAT(Refused(R"({"prompt": [-1]})"), HasSubstr("0 to 255"));
  EXPECT_THAT(Refused(R"({"prompt": [1.5]})"), HasSubstr("whole number"));
  EXPECT_THAT(Refused(R"({"prompt": [99999999999999999999]})"), HasSubstr("whole number"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "max_tokens": -1})"), HasSubstr("0 to 12"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "max_tokens": "1"})"), HasSubstr("whole number"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "temperature": -0.5})"), HasSubstr("temperature is -0.5"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "top_p": 0})"), HasSubstr("top_p is 0"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "logprobs": 6})"), HasSubstr("at most 5"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "echo": 1})"), HasSubstr("true or false"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "stop": ""})"), HasSubstr("not empty"));
  EXPECT_THAT(Refused(R"({"prompt": "a", "stop": 3})"), HasSubstr("at most 16 texts"));
}

TEST(CompletionRequest, LengthsThatFit) {
  Parse(R"({"prompt": "abcdefghijkl", "max_tokens": 1})");  // the last token is no input
  EXPECT_THAT(Refused(R"({"prompt": "abcdefghijklm", "max_tokens": 0})"), HasSubstr("13 tokens"));
  EXPECT_THAT(Refused(R"({"prompt": "abcdefghijkl", "max_tokens": 2})"), HasSubstr("which sees 12"));
  EXPECT_THAT(Refused(R"({"prompt": "a"})"), HasSubstr("1 tokens and 16 more"));
}

TEST(CompletionRequest, ErrorsAreOpenAis) {
  const auto json = nlohmann::json::parse(ErrorBody(413, "too \"large\" \xff"));
  EXPECT_EQ(json["error"]["code"], 413);
  EXPECT_EQ(json["error"]["type"], "invalid_request_error");
  EXPECT_THAT(json["error"]["message"].get<std::string>(), HasSubstr("too \"large\""));
  EXPECT_EQ(nlohmann::json::parse(ErrorBody(503, ""))["error"]["type"], "server_error");
}

}  // namespace
}  // namespace unipool
