"""Real sentences, English and Chinese, of many lengths: what parity and the self-test are measured on."""

_ENGLISH = """\
Toy Story
The Shawshank Redemption
wireless headphones
running shoes for wide feet
How do I bake bread without yeast?
Best noise-cancelling headphones under $200 (2024 edition)
A detective hunts a killer who leaves riddles at every scene.
I returned it after two days: the zip broke and nobody answered my e-mails.
Five stars! My daughter has not put it down since her birthday.
Cheap flights from Lisbon to Reykjavík in late September
What is the difference between a latte and a flat white?
The battery lasts about nine hours, less when the screen is bright.
Waterproof hiking boots, size 43
An intimate documentary about the last lighthouse keepers of Brittany.
Not worth the price.
Stock markets fell sharply on Thursday after the central bank raised rates again.
vegan lasagne recipe, gluten free
Learn Rust by writing a small operating system
Jazz for rainy afternoons
The plot is thin, but the photography and the score carry the film to its quiet end.
USB-C cable 2m 100W
She moved to the city to become a dancer and found work as a baker instead.
Does this lens fit a full-frame camera?
Nothing happens for an hour, and then everything does.
Garden hose with brass fittings and a ten-year guarantee
How the Romans built roads that still carry traffic today
Comfortable, light and warm; runs one size small.
ergonomic chair
A young wizard discovers that the school's oldest portrait has been lying to everyone.
Is it safe to update the firmware while the device is charging?
Symphony No. 5 in C minor, Op. 67
Twelve easy dinners for people who come home late
The manual is only in German, yet the assembly took me ten minutes.
Thriller, heist, Paris, 1960s
Second-hand road bike with carbon fork"""

_CHINESE = """\
玩具总动员
无线耳机
适合宽脚的跑鞋
如何在没有酵母的情况下烤面包?
这部电影的情节很简单,但摄影和配乐非常出色。
两天后我就退货了:拉链坏了,也没有人回复我的邮件。
五星好评!女儿生日以后就没有放下过它。
九月底从上海到东京的便宜机票
拿铁和馥芮白有什么区别?
电池大约能用九个小时,屏幕很亮的时候会更短。
防水登山鞋,四十三码
一部关于最后的灯塔守护人的纪录片。
不值这个价。
央行再次加息后,周四股市大幅下跌。
素食千层面食谱
通过编写小型操作系统来学习编程
适合雨天下午听的爵士乐
她搬到城里想当舞蹈演员,结果却成了面包师。
这个镜头适合全画幅相机吗?
人体工学椅
古罗马人如何修建至今仍在使用的道路
舒适、轻便、保暖;尺码偏小。
充电时更新固件安全吗?
给晚归的人准备的十二道简单晚餐
说明书只有德文,但我十分钟就装好了。
悬疑 犯罪 巴黎
二手公路自行车
春天的第一场雨
三体
北京最好吃的火锅店在哪里?"""

ENGLISH: tuple[str, ...] = tuple(_ENGLISH.splitlines())
CHINESE: tuple[str, ...] = tuple(_CHINESE.splitlines())
LONG: tuple[str, ...] = (" ".join(ENGLISH[:12]), " ".join(ENGLISH), "".join(CHINESE))
PARITY: tuple[str, ...] = ("", *ENGLISH, *CHINESE, *LONG)
SELFTEST: tuple[str, ...] = (*ENGLISH[:18], *CHINESE[:13], LONG[0])
