"""Twelve harmless sentences in nine languages of eight scripts, made for these tests: line n says the same in each."""

from __future__ import annotations

SENTENCES = {
    "en": """The old baker opens his shop before sunrise and sells warm bread to the children on their way to school.
On Sunday we walked along the river until we found a small bridge made of grey stone.
My sister is learning to play the violin because she wants to join the city orchestra next year.
If it rains tomorrow, the football match will be moved to the large hall near the station.
The library lends books for four weeks, and readers may extend this period twice on the website.
Three cats sleep on the roof of the blue house when the afternoon sun is warm enough.
Please wash the apples, cut them into thin slices and bake them with a little sugar and cinnamon.
The train to the mountains leaves from the second platform and arrives shortly after noon.
Our teacher showed us how plants turn light into sugar and why leaves become yellow in autumn.
He forgot his umbrella in the café, but the friendly waiter kept it behind the counter for him.
The new museum shows maps, coins and letters that sailors brought home two hundred years ago.
She writes a short poem every evening and reads it to her grandmother on the telephone.""",
    "de": """Der alte Bäcker öffnet seinen Laden vor Sonnenaufgang und verkauft den Kindern warmes Brot auf dem Weg.
Am Sonntag gingen wir am Fluss entlang, bis wir eine kleine Brücke aus grauem Stein fanden.
Meine Schwester lernt Geige spielen, weil sie nächstes Jahr im Orchester der Stadt mitspielen möchte.
Wenn es morgen regnet, wird das Fußballspiel in die große Halle neben dem Bahnhof verlegt.
Die Bücherei verleiht Bücher für vier Wochen, und Leser dürfen diese Frist zweimal auf der Webseite verlängern.
Drei Katzen schlafen auf dem Dach des blauen Hauses, wenn die Nachmittagssonne warm genug ist.
Bitte wasche die Äpfel, schneide sie in dünne Scheiben und backe sie mit etwas Zucker und Zimt.
Der Zug in die Berge fährt vom zweiten Bahnsteig ab und kommt kurz nach Mittag an.
Unsere Lehrerin zeigte uns, wie Pflanzen Licht in Zucker verwandeln und warum Blätter im Herbst gelb werden.
Er vergaß seinen Schirm im Café, aber der freundliche Kellner bewahrte ihn hinter der Theke für ihn auf.
Das neue Museum zeigt Karten, Münzen und Briefe, die Seeleute vor zweihundert Jahren nach Hause brachten.
Sie schreibt jeden Abend ein kurzes Gedicht und liest es ihrer Großmutter am Telefon vor.""",
    "ru": """Старый пекарь открывает свою лавку до восхода солнца и продаёт тёплый хлеб детям по дороге в школу.
В воскресенье мы шли вдоль реки, пока не нашли маленький мост из серого камня.
Моя сестра учится играть на скрипке, потому что хочет в следующем году играть в городском оркестре.
Если завтра пойдёт дождь, футбольный матч перенесут в большой зал рядом с вокзалом.
Библиотека выдаёт книги на четыре недели, и читатели могут дважды продлить этот срок на сайте.
Три кошки спят на крыше синего дома, когда послеполуденное солнце достаточно тёплое.
Пожалуйста, вымой яблоки, нарежь их тонкими ломтиками и испеки с щепоткой сахара и корицей.
Поезд в горы отправляется со второй платформы и прибывает вскоре после полудня.
Наша учительница показала нам, как растения превращают свет в сахар и почему листья осенью желтеют.
Он забыл свой зонт в кафе, но приветливый официант сохранил его для него за стойкой.
Новый музей показывает карты, монеты и письма, которые моряки привезли домой двести лет назад.
Она каждый вечер пишет короткое стихотворение и читает его своей бабушке по телефону.""",
    "ar": """يفتح الخباز العجوز متجره قبل شروق الشمس ويبيع الخبز الدافئ للأطفال في طريقهم إلى المدرسة.
يوم الأحد مشينا على طول النهر حتى وجدنا جسرا صغيرا من الحجر الرمادي.
تتعلم أختي العزف على الكمان لأنها تريد الانضمام إلى فرقة المدينة في العام القادم.
إذا هطل المطر غدا فسوف تنقل مباراة كرة القدم إلى القاعة الكبيرة قرب المحطة.
تعير المكتبة الكتب لمدة أربعة أسابيع ويمكن للقراء تمديد هذه المدة مرتين على الموقع.
تنام ثلاث قطط على سطح البيت الأزرق عندما تكون شمس العصر دافئة بما يكفي.
من فضلك اغسل التفاح وقطعه إلى شرائح رقيقة واخبزه مع قليل من السكر والقرفة.
يغادر القطار إلى الجبال من الرصيف الثاني ويصل بعد الظهر بقليل.
أرتنا معلمتنا كيف تحول النباتات الضوء إلى سكر ولماذا تصفر الأوراق في الخريف.
نسي مظلته في المقهى لكن النادل اللطيف احتفظ بها له خلف الطاولة.
يعرض المتحف الجديد خرائط وعملات ورسائل أحضرها البحارة إلى الوطن قبل مئتي عام.
تكتب كل مساء قصيدة قصيرة وتقرؤها لجدتها على الهاتف.""",
    "hi": """बूढ़ा नानबाई सूर्योदय से पहले अपनी दुकान खोलता है और स्कूल जाते बच्चों को गरम रोटी बेचता है।
रविवार को हम नदी के किनारे चलते रहे जब तक हमें धूसर पत्थर का एक छोटा पुल नहीं मिला।
मेरी बहन वायलिन बजाना सीख रही है क्योंकि वह अगले साल शहर के वादक दल में शामिल होना चाहती है।
अगर कल बारिश हुई तो फुटबॉल का मैच स्टेशन के पास वाले बड़े हॉल में होगा।
पुस्तकालय चार सप्ताह के लिए किताबें देता है और पाठक वेबसाइट पर यह अवधि दो बार बढ़ा सकते हैं।
जब दोपहर की धूप काफी गरम होती है तब तीन बिल्लियाँ नीले घर की छत पर सोती हैं।
कृपया सेबों को धोइए, पतले टुकड़ों में काटिए और थोड़ी चीनी और दालचीनी के साथ सेंकिए।
पहाड़ों की रेलगाड़ी दूसरे प्लेटफ़ॉर्म से चलती है और दोपहर के थोड़ी देर बाद पहुँचती है।
हमारी अध्यापिका ने दिखाया कि पौधे प्रकाश को चीनी में कैसे बदलते हैं और पत्तियाँ शरद में पीली क्यों होती हैं।
वह अपना छाता कॉफ़ी की दुकान में भूल गया, पर भले बैरे ने उसे उसके लिए मेज़ के पीछे रख दिया।
नया संग्रहालय वे नक्शे, सिक्के और चिट्ठियाँ दिखाता है जो नाविक दो सौ साल पहले घर लाए थे।
वह हर शाम एक छोटी कविता लिखती है और उसे फ़ोन पर अपनी दादी को सुनाती है।""",
    "ko": """늙은 제빵사는 해가 뜨기 전에 가게를 열고 학교에 가는 아이들에게 따뜻한 빵을 판다.
일요일에 우리는 회색 돌로 만든 작은 다리를 찾을 때까지 강을 따라 걸었다.
내 여동생은 내년에 시립 관현악단에 들어가고 싶어서 바이올린을 배우고 있다.
내일 비가 오면 축구 경기는 역 근처의 큰 체육관으로 옮겨질 것이다.
도서관은 책을 네 주 동안 빌려주고 독자는 누리집에서 이 기간을 두 번 늘릴 수 있다.
오후의 햇볕이 충분히 따뜻하면 고양이 세 마리가 파란 집의 지붕 위에서 잔다.
사과를 씻어서 얇게 썬 다음 설탕과 계피를 조금 넣고 오븐에 구워 주세요.
산으로 가는 기차는 두 번째 승강장에서 떠나 정오가 조금 지나서 도착한다.
우리 선생님은 식물이 빛을 당분으로 바꾸는 방법과 가을에 잎이 노랗게 되는 까닭을 보여 주셨다.
그는 찻집에 우산을 두고 왔지만 친절한 종업원이 그를 위해 계산대 뒤에 보관해 두었다.
새 박물관은 선원들이 이백 년 전에 고향으로 가져온 지도와 동전과 편지를 보여 준다.
그녀는 매일 저녁 짧은 시를 써서 전화로 할머니에게 읽어 드린다.""",
    "zh": """老面包师在日出之前打开店门，把热面包卖给上学路上的孩子们。
星期天我们沿着河边散步，直到找到一座用灰色石头建成的小桥。
我的妹妹正在学习拉小提琴，因为她想明年参加城市的管弦乐队。
如果明天下雨，足球比赛就会改到车站附近的大体育馆举行。
图书馆借书的期限是四个星期，读者可以在网站上把这个期限延长两次。
下午的阳光足够温暖的时候，三只猫在蓝色房子的屋顶上睡觉。
请把苹果洗干净，切成薄片，然后加一点糖和肉桂一起烤熟。
开往山区的火车从第二站台出发，中午过后不久就会到达。
我们的老师告诉我们植物怎样把阳光变成糖分，以及树叶为什么在秋天变黄。
他把雨伞忘在咖啡馆里了，但是友好的服务员帮他放在柜台后面保管。
新的博物馆展出水手们两百年前带回家乡的地图、硬币和信件。
她每天晚上写一首短诗，然后在电话里读给她的奶奶听。""",
    "ja": """年老いたパン屋は日の出の前に店を開け、学校へ行く子供たちに温かいパンを売る。
日曜日に私たちは灰色の石でできた小さな橋を見つけるまで川沿いを歩いた。
妹は来年市の管弦楽団に入りたいので、バイオリンの弾き方を習っている。
明日雨が降れば、サッカーの試合は駅の近くの大きな体育館に変更される。
図書館は本を四週間貸し出し、読者はこの期間をウェブサイトで二回延長できる。
午後の日差しが十分に暖かいとき、三匹の猫が青い家の屋根の上で眠る。
りんごを洗って薄く切り、砂糖とシナモンを少し加えて焼いてください。
山へ行く列車は二番線から出発し、正午を少し過ぎて到着する。
先生は植物がどのように光を糖に変えるか、なぜ葉が秋に黄色くなるかを見せてくれた。
彼は喫茶店に傘を忘れたが、親切な店員が彼のためにカウンターの後ろで預かってくれた。
新しい博物館は船乗りが二百年前に故郷へ持ち帰った地図や硬貨や手紙を展示している。
彼女は毎晩短い詩を書いて、電話で祖母に読んで聞かせる。""",
    "th": """คนทำขนมปังชราเปิดร้านก่อนพระอาทิตย์ขึ้นและขายขนมปังอุ่นให้เด็กที่กำลังเดินไปโรงเรียน
วันอาทิตย์เราเดินเลียบแม่น้ำไปจนพบสะพานเล็กที่สร้างจากหินสีเทา
น้องสาวของฉันกำลังเรียนเล่นไวโอลินเพราะเธออยากเข้าร่วมวงดนตรีของเมืองในปีหน้า
ถ้าพรุ่งนี้ฝนตกการแข่งขันฟุตบอลจะย้ายไปที่ห้องโถงใหญ่ใกล้สถานีรถไฟ
ห้องสมุดให้ยืมหนังสือสี่สัปดาห์และผู้อ่านสามารถขยายเวลานี้ได้สองครั้งบนเว็บไซต์
แมวสามตัวนอนบนหลังคาบ้านสีฟ้าเมื่อแดดตอนบ่ายอุ่นเพียงพอ
กรุณาล้างแอปเปิลหั่นเป็นแผ่นบางแล้วอบกับน้ำตาลและอบเชยเล็กน้อย
รถไฟไปภูเขาออกจากชานชาลาที่สองและมาถึงหลังเที่ยงวันไม่นาน
ครูของเราแสดงให้เห็นว่าพืชเปลี่ยนแสงเป็นน้ำตาลอย่างไรและทำไมใบไม้จึงเป็นสีเหลืองในฤดูใบไม้ร่วง
เขาลืมร่มไว้ในร้านกาแฟแต่พนักงานใจดีเก็บไว้ให้เขาหลังเคาน์เตอร์
พิพิธภัณฑ์แห่งใหม่แสดงแผนที่เหรียญและจดหมายที่ลูกเรือนำกลับบ้านเมื่อสองร้อยปีก่อน
เธอเขียนบทกวีสั้นทุกเย็นแล้วอ่านให้คุณยายฟังทางโทรศัพท์""",
}
PARALLEL = {language: text.splitlines() for language, text in SENTENCES.items()}
"""Language -> its sentences."""
