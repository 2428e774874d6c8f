"""What people read for the names of metrics, designs and settings: as few words as a sentence with numbers allows."""

from qkvlab.contracts import Words

METRICS = {
    "error": Words("错误率", "error"),
    "nats": Words("每字损失（nat）", "nats per character"),
    "coverage": Words("四本该看的书里看到的比例", "share of the four relevant books that are seen"),
    "swap": Words("交换两个名词的 K 后答案跟着交换的比例", "answers exchanged when the keys of the two nouns are"),
    "k_role": Words("从 K 读出角色的正确率", "accuracy of reading the role from K"),
    "v_role": Words("从 V 读出角色的正确率", "accuracy of reading the role from V"),
    "k_word": Words("从 K 读出是哪个词的正确率", "accuracy of reading the word from K"),
    "v_word": Words("从 V 读出是哪个词的正确率", "accuracy of reading the word from V"),
    "ratios": Words("窄头用时 / 全宽用时", "time of the narrow head by that of a full one"),
    "own_1": Words("第一层最看自己的词的比例", "tokens that look most at themselves, layer 1"),
    "own_2": Words("第二层最看自己的词的比例", "tokens that look most at themselves, layer 2"),
    "own_1_before": Words(
        "训练前第一层最看自己的词的比例", "tokens that look most at themselves, layer 1, before training"
    ),
}
NAMES = {
    "QKV": Words("三者分开", "all separate"),
    "QQV": Words("Q、K 共用", "Q and K shared"),
    "XXV": Words("Q、K 就是 x", "x as Q and K"),
    "XKV": Words("不要 W_Q", "no W_Q"),
    "QXV": Words("不要 W_K", "no W_K"),
    "QKK": Words("K、V 共用", "K and V shared"),
    "QDQ": Words("对称但可为负", "symmetric but signed"),
    "QQV/noself": Words("Q、K 共用、不看自己", "Q and K shared, no look at oneself"),
    "QKV/kv2": Words("两头共用一组 K、V", "one K and V for two heads"),
    "QKV/h16": Words("16 维的头", "head of 16"),
    "QKV/h64": Words("64 维的头", "head of 64"),
    "frozen": Words("随机、不训练", "random, never trained"),
    "uniform": Words("均匀注意力", "equal attention"),
}
"""Designs in as few words as a sentence with numbers allows."""
SETTINGS = {
    "synonym/fixed": Words("余弦 0", "cosine 0"),
    "synonym/fixed/cos0.3": Words("余弦 0.3", "cosine .3"),
    "synonym/fixed/cos0.6": Words("余弦 0.6", "cosine .6"),
}
